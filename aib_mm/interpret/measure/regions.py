"""What counts as the object in a data sample: a mask, boxes, or labels of pixels.

Each region gives the object as a bool mask and the attention on the same pixels. Data
samples come as evaluators get them: dicts, nested, metainfo and fields side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aib_mm.errors import choose
from aib_mm.interpret.record.geometry import (
    FRAMES,
    boxes_mask,
    map_on_image,
    resize_map,
)

Sample = Mapping[str, Any]
#: Attention ``(H, W)`` and the object ``(H, W)``, bool, pixel on pixel.
Placed = tuple[Tensor, Tensor]
Region = Callable[[Tensor, Sample], Placed]


@dataclass(frozen=True)
class MaskRegion:
    """Pixels where a mask ``(H, W)`` is not zero. The attention is resized to it.

    Attributes:
        key: field of the mask.
    """

    key: str = 'gt_seg_map'

    def __call__(self, attention: Tensor, sample: Sample) -> Placed:
        remedy = f'load it, and PackInputs(algorithm_keys=({self.key!r},))'
        mask = require(sample, self.key, remedy)
        array = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
        # Torch takes no array that a flip turned around.
        objects = torch.from_numpy(np.ascontiguousarray(array > 0))
        return resize_map(attention[None], objects.shape)[0], objects


@dataclass(frozen=True)
class BoxRegion:
    """Pixels inside any of ``gt_instances.bboxes``; ignored instances do not count.

    Attributes:
        frame: frame of the boxes: ``'ori_shape'``, as the hosts' metrics have it, where
            the test pipeline loads annotations after ``Resize``; ``'img_shape'`` where
            it loads them before.
    """

    frame: str = 'ori_shape'

    def __post_init__(self) -> None:
        choose('frame', self.frame, FRAMES)

    def __call__(self, attention: Tensor, sample: Sample) -> Placed:
        remedy = 'the test pipeline needs LoadAnnotations(with_bbox=True)'
        instances = require(sample, 'gt_instances', remedy)
        bboxes = require(instances, 'bboxes', remedy)
        boxes = getattr(bboxes, 'tensor', bboxes).detach().cpu()
        placed = map_on_image(attention, sample, self.frame)
        return placed, boxes_mask(boxes, placed.shape)


@dataclass(frozen=True)
class ClassRegion:
    """Pixels of ``gt_sem_seg`` whose label is neither ignored nor background.

    Attributes:
        background: labels that are no object.
        ignore_index: the label of pixels that have none.
    """

    background: Sequence[int] = ()
    ignore_index: int = 255

    def __call__(self, attention: Tensor, sample: Sample) -> Placed:
        remedy = 'the test pipeline needs LoadAnnotations'
        labels = require(require(sample, 'gt_sem_seg', remedy), 'data', remedy)
        labels = labels.detach().cpu().squeeze(0)
        placed = map_on_image(attention, sample)
        if labels.shape != placed.shape:
            raise ValueError(
                f'gt_sem_seg is {tuple(labels.shape)} and its image '
                f'{tuple(placed.shape)}: LoadAnnotations must come after Resize in the '
                'test pipeline'
            )
        outside = torch.tensor([*self.background, self.ignore_index])
        return placed, ~torch.isin(labels, outside)


REGIONS: dict[str, type] = {
    'mask': MaskRegion,
    'boxes': BoxRegion,
    'classes': ClassRegion,
}


def build_region(region: str | dict) -> Region:
    """A region by its name in ``REGIONS``, or by ``dict(type=name, …)``.

    Raises:
        ValueError: an unknown name.
    """
    options = dict(type=region) if isinstance(region, str) else dict(region)
    name = options.pop('type', None)
    choose('region', name, REGIONS)
    return REGIONS[name](**options)


def require(sample: Sample, key: str, remedy: str) -> Any:
    """``sample[key]``.

    Raises:
        KeyError: it is missing; says what to do.
    """
    if key not in sample:
        raise KeyError(f'a data sample has no {key!r}: {remedy}')
    return sample[key]


def check_flags(shape: str, **given: Tensor) -> None:
    """Raise unless two tensors, the second of them bool, fit each other.

    Args:
        shape: their shape in words, ``'(N,)'`` or ``'(N, H, W)'``.
        given: both by name.

    Raises:
        ValueError: names what does not fit.
    """
    (first, values), (second, flags) = given.items()
    if values.dim() != len(shape.split()) or values.shape != flags.shape:
        raise ValueError(
            f'{first} and {second} must both be {shape}, got {tuple(values.shape)} and '
            f'{tuple(flags.shape)}'
        )
    if flags.dtype != torch.bool:
        raise ValueError(f'{second} must be bool, got {flags.dtype}')
