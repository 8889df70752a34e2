"""Where the attention lies: on the image, and against the object's mask.

The measures take a batch of maps and a batch of masks of the same size, so that the
resizing, which is a choice, is the caller's and visible.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aib_mm.errors import choose

#: Of the image in the file; of the image that the pipeline made of it, unpadded.
FRAMES = ('ori_shape', 'img_shape')


def resize_map(attention: Tensor, size: tuple[int, int], smooth: bool = True) -> Tensor:
    """Attention ``(N, 1, h, w)`` at ``size``, ``(N, H, W)``.

    Args:
        attention: the maps.
        size: H and W.
        smooth: bilinearly; else the nearest value, so that an anchor stays an anchor.
    """
    return F.interpolate(
        attention, size, mode='bilinear' if smooth else 'nearest-exact'
    ).squeeze(1)


def map_on_image(
    attention: Tensor,
    metainfo: Mapping[str, Any],
    frame: str = 'ori_shape',
    smooth: bool = True,
) -> Tensor:
    """A map of the network's input, brought to the pixels of an image.

    The input is what the host's data preprocessor made: images padded, mostly at the
    right and at the bottom, to a common size. The map is resized to it, the padding is
    cut off, and for ``'ori_shape'`` a flip and the pipeline's resizing are taken back.

    Args:
        attention: ``(1, h, w)``.
        metainfo: of the data sample: ``batch_input_shape`` or ``pad_shape`` where there
            is padding, ``img_shape``, ``ori_shape``; ``scale_factor`` tells padding by
            the pipeline from image.
        frame: one of ``FRAMES``.
        smooth: see ``resize_map``.

    Returns:
        ``(H, W)`` as ``metainfo[frame]``.

    Raises:
        KeyError: a shape is missing.
        ValueError: another frame; ``'ori_shape'`` of an image that was cropped.
    """
    choose('frame', frame, FRAMES)
    shape = _shape(metainfo, 'img_shape')
    padded = next(
        _shape(metainfo, key)
        for key in ('batch_input_shape', 'pad_shape', 'img_shape')
        if metainfo.get(key) is not None
    )
    full = resize_map(attention[None], padded, smooth)[0]
    pads = metainfo.get('img_padding_size') or metainfo.get('padding_size') or (0,) * 4
    left, top = int(pads[0]), int(pads[2])
    if frame == 'img_shape':
        return full[top : top + shape[0], left : left + shape[1]]
    original = _shape(metainfo, 'ori_shape')
    height, width = _resized_shape(metainfo, original, shape)
    image = full[top : top + height, left : left + width]
    if metainfo.get('flip'):
        image = image.flip(_FLIPPED[metainfo['flip_direction']])
    return resize_map(image[None, None], original, smooth)[0]


_FLIPPED = {'horizontal': (1,), 'vertical': (0,), 'diagonal': (0, 1)}


def _shape(metainfo: Mapping[str, Any], key: str) -> tuple[int, int]:
    if metainfo.get(key) is None:
        raise KeyError(
            f'a data sample has no {key!r}: add it to meta_keys of the last step '
            '(PackDetInputs, PackSegInputs, PackInputs) of the test pipeline'
        )
    height, width = metainfo[key][:2]
    return int(height), int(width)


def _resized_shape(
    metainfo: Mapping[str, Any], original: tuple[int, int], shape: tuple[int, int]
) -> tuple[int, int]:
    """What the pipeline resized the image to, before it padded it up to ``shape``."""
    scale = metainfo.get('scale_factor')
    if scale is None:
        return shape
    height, width = round(original[0] * scale[1]), round(original[1] * scale[0])
    if height > shape[0] or width > shape[1]:
        raise ValueError(
            f'ori_shape {original} times scale_factor {tuple(scale)} is more than '
            f"img_shape {shape}: the pipeline crops, so that only frame='img_shape' "
            'is known'
        )
    return height, width


def attention_energy(attention: Tensor, mask: Tensor) -> Tensor:
    """Share of the attention that lies on the object, ``(N,)`` in [0, 1].

    The minimum of each map is taken off first, since a constant selects nothing; a map
    that is constant has its energy spread evenly, and so the mask's share of the area.

    Args:
        attention: ``(N, H, W)``.
        mask: ``(N, H, W)``, bool.
    """
    _check(attention, mask)
    maps = attention.flatten(1).double()
    maps = maps - maps.amin(dim=1, keepdim=True)
    total = maps.sum(dim=1, keepdim=True)
    uniform = torch.full_like(maps, 1.0 / maps.shape[1])
    share = torch.where(total == 0, uniform, maps / total)
    return (share * mask.flatten(1)).sum(dim=1)


def pointing_game(attention: Tensor, mask: Tensor, tolerance: int = 0) -> Tensor:
    """Whether the maximum of each map falls on the object, ``(N,)`` in [0, 1].

    Where several positions share the maximum it is the share of them on the object,
    which is the chance of a hit if one is drawn.

    Args:
        attention: ``(N, H, W)``.
        mask: ``(N, H, W)``, bool.
        tolerance: pixels by which a maximum may miss the object, in any direction.
    """
    _check(attention, mask)
    maps = attention.flatten(1)
    peak = maps == maps.amax(dim=1, keepdim=True)
    hits = peak & dilate(mask, tolerance).flatten(1)
    return hits.sum(dim=1).double() / peak.sum(dim=1)


def attention_iou(attention: Tensor, mask: Tensor, threshold: float = 0.5) -> Tensor:
    """Intersection over union of the thresholded map and the object, ``(N,)``.

    Each map is brought to [0, 1] by its minimum and maximum, and holds the positions
    that reach the threshold. Of a map that is constant it holds all of them, so that
    the IoU is the mask's share of the area.

    Args:
        attention: ``(N, H, W)``.
        mask: ``(N, H, W)``, bool, with an object in each: NaN for one without, of which
            there is nothing to find.
        threshold: in [0, 1].

    Raises:
        ValueError: shapes or types that do not fit, another threshold.
    """
    _check(attention, mask)
    check_threshold('threshold', threshold)
    maps, objects = attention.flatten(1).double(), mask.flatten(1)
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    held = maps - low >= threshold * (high - low)
    shared, either = (held & objects).sum(dim=1), (held | objects).sum(dim=1)
    found = objects.any(dim=1)
    return torch.where(found, shared.double() / either, torch.nan)


def check_threshold(name: str, value: float) -> None:
    """Raise unless ``value`` is a share of a map's range.

    Raises:
        ValueError: names the argument and the value.
    """
    if not 0 <= value <= 1:
        raise ValueError(f'{name} must be in [0, 1], got {value!r}')


def boxes_mask(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels ``(H, W)`` whose centre lies in any of the boxes, bool.

    Args:
        boxes: ``(n, 4)``, left, top, right, bottom; a pixel is 1 × 1 and the first one
            has its centre at 0.5.
        size: H and W.
    """
    boxes = boxes.to(torch.float64)
    rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in size)
    in_columns = (columns >= boxes[:, 0:1]) & (columns < boxes[:, 2:3])
    in_rows = (rows >= boxes[:, 1:2]) & (rows < boxes[:, 3:4])
    # How many boxes hold a pixel, without a map for each box.
    return in_rows.double().T @ in_columns.double() > 0


def dilate(mask: Tensor, pixels: int) -> Tensor:
    """Grow a bool mask ``(N, H, W)`` by ``pixels`` in all eight directions."""
    if pixels == 0:
        return mask
    size = 2 * pixels + 1
    grown = F.max_pool2d(mask.unsqueeze(1).float(), size, stride=1, padding=pixels)
    return grown.squeeze(1) > 0


def _check(attention: Tensor, mask: Tensor) -> None:
    if attention.dim() != 3 or attention.shape != mask.shape:
        raise ValueError(
            'attention and mask must both be (N, H, W), got '
            f'{tuple(attention.shape)} and {tuple(mask.shape)}'
        )
    if mask.dtype != torch.bool:
        raise ValueError(f'mask must be bool, got {mask.dtype}')
