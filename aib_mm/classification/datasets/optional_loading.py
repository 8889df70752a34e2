"""Steps of test pipelines that load only what is there to load.

With them a pipeline serves its data set and a lone image file as well, as mmpretrain's
inferencers and tools hand one over.
"""

from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmpretrain.registry import TRANSFORMS as MMPRETRAIN_TRANSFORMS

from aib_mm.registry import TRANSFORMS


@MMPRETRAIN_TRANSFORMS.register_module()
@TRANSFORMS.register_module()
class LoadMaskAnnotations(LoadAnnotations):
    """Load the mask of a sample that has one, as ``gt_seg_map``; else do nothing.

    Args:
        kwargs: arguments of mmcv's ``LoadAnnotations``, such as ``imdecode_backend``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(with_bbox=False, with_label=False, with_seg=True, **kwargs)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``gt_seg_map`` ``(H, W)``, from ``seg_map_path`` if that is there."""
        if results.get('seg_map_path') is None:
            return results
        return super().transform(results)


@MMPRETRAIN_TRANSFORMS.register_module()
@TRANSFORMS.register_module()
class LoadImageIfFile(LoadImageFromFile):
    """Load the image of a sample that is a file; one that holds its pixels passes.

    For sets of RGB arrays, such as CIFAR: a file is loaded as RGB too.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add ``img`` ``(H, W, 3)``, RGB, from ``img_path`` if there is no ``img``."""
        if 'img' in results:
            return results
        results = super().transform(results)
        if results is not None:
            results['img'] = np.ascontiguousarray(results['img'][..., ::-1])
        return results
