"""CUB-200-2011 with the boxes of its birds, and the crop to them."""

import math
from pathlib import Path
from typing import Any, ClassVar

from mmcv.transforms import BaseTransform
from mmpretrain.datasets import CUB
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS
from mmpretrain.registry import TRANSFORMS as MMPRETRAIN_TRANSFORMS

from aib_mm.errors import DataError
from aib_mm.registry import DATASETS, TRANSFORMS

URL = 'http://www.vision.caltech.edu/datasets/cub_200_2011/'
BOXES = 'bounding_boxes.txt'


@DATASETS.register_module()
@MMPRETRAIN_DATASETS.register_module()
class CUBWithBoxes(CUB):
    """mmpretrain's ``CUB``, with the ground-truth box of every image.

    Every sample also has ``bird_box``: left, top, width and height in pixels, as
    ``bounding_boxes.txt`` gives them. Arguments are those of ``CUB``.

    Raises:
        DataError: a file is missing, or does not hold what it should.
    """

    FILES: ClassVar[tuple[str, ...]] = (
        'images.txt',
        'image_class_labels.txt',
        'train_test_split.txt',
        BOXES,
    )

    def load_data_list(self) -> list[dict[str, Any]]:
        """The host's samples, in its order, with their boxes."""
        root = Path(self.data_root)
        missing = [name for name in self.FILES if not (root / name).is_file()]
        if missing:
            raise DataError(
                f'{root} has no {", ".join(missing)}: unpack CUB_200_2011.tgz there '
                f'({URL}); it is not downloaded by itself'
            )
        boxes = read_boxes(root / BOXES)
        try:
            numbers = self._load_data_from_txt(self.ann_file)
            samples = super().load_data_list()
        except (ValueError, KeyError, AssertionError) as error:
            raise DataError(
                f'the lists of CUB-200-2011 in {root} are damaged ({error}): unpack '
                f'CUB_200_2011.tgz again'
            ) from error
        of_path = {name: boxes.get(number) for number, name in numbers.items()}
        prefix = Path(self.img_prefix)
        for sample in samples:
            name = Path(sample['img_path']).relative_to(prefix).as_posix()
            if of_path[name] is None:
                raise DataError(
                    f'{root / BOXES} has no box for {name}: unpack it again'
                )
            if not 0 <= sample['gt_label'] < len(self.CLASSES):
                raise DataError(
                    f'{root / "image_class_labels.txt"} has the label '
                    f'{sample["gt_label"] + 1} for {name}, but the set has '
                    f'{len(self.CLASSES)} classes: unpack CUB_200_2011.tgz again'
                )
            sample['bird_box'] = of_path[name]
        return samples


def read_boxes(path: Path) -> dict[int, tuple[float, ...]]:
    """Boxes by number of the image, from 0: left, top, width, height in pixels.

    Raises:
        DataError: a line is not a number and a box of some size.
    """
    boxes: dict[int, tuple[float, ...]] = {}
    for row, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            number, *box = map(float, line.split())
            left, top, width, height = box
            if min(width, height) < 1:
                raise ValueError('a box of no size')
        except ValueError as error:
            raise DataError(
                f'{path}, line {row}: {line!r} should be NUMBER LEFT TOP WIDTH HEIGHT '
                f'({error}): unpack CUB_200_2011.tgz again'
            ) from error
        boxes[int(number) - 1] = (left, top, width, height)
    return boxes


@TRANSFORMS.register_module()
@MMPRETRAIN_TRANSFORMS.register_module()
class CropToBox(BaseTransform):
    """Cut the image to the pixels that a box touches.

    Required keys: ``img`` and ``key``, the box as left, top, width, height in pixels.
    Modified keys: ``img``, ``img_shape``.

    Args:
        key: key of the box in the sample.
        lone_images: whether an image with neither box nor label, such as inferencers
            and tools hand on, is taken as it is. Samples of a data set have a label.
    """

    def __init__(self, key: str = 'bird_box', lone_images: bool = False) -> None:
        self.key = key
        self.lone_images = lone_images

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop ``img``.

        Raises:
            DataError: the sample has no box, or the box lies outside the image.
        """
        path = results.get('img_path', 'the image')
        if self.key not in results:
            if self.lone_images and 'gt_label' not in results:
                return results
            raise DataError(
                f'CropToBox found no {self.key!r} for {path}: it needs a dataset that '
                f'gives boxes, for instance CUBWithBoxes'
            )
        left, top, width, height = results[self.key]
        image = results['img'][
            max(math.floor(top), 0) : max(math.ceil(top + height), 0),
            max(math.floor(left), 0) : max(math.ceil(left + width), 0),
        ]
        if 0 in image.shape:
            raise DataError(
                f'the box {tuple(results[self.key])} (left, top, width, height) lies '
                f'outside {path}, which is {results["img"].shape[:2]} (height, width): '
                f'image and list do not belong together'
            )
        results['img'] = image
        results['img_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(key={self.key!r})'
