"""What an inferencer needs to know of a host's config."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS


def class_meta(meta: Mapping[str, Any], dataset: ConfigDict) -> dict[str, Any]:
    """Names and colours of the classes, from whoever knows them.

    Args:
        meta: what the checkpoint says, which has the last word; keys in any case.
        dataset: config of the data set.
    """
    kind = dataset.type
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    registered = getattr(kind, 'METAINFO', {})
    known = {key.lower(): value for key, value in meta.items()}
    meta = {**registered, **(dataset.get('metainfo') or {}), **known}
    classes = meta.get('classes') or ()
    if classes and not isinstance(meta.get('palette'), list | tuple):
        colors = matplotlib.colormaps['tab20'](np.arange(len(classes)) % 20)[:, :3]
        meta['palette'] = np.round(255 * colors).astype(int).tolist()
    return meta
