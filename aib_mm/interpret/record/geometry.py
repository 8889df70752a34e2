"""Maps brought to the pixels of an image, and boxes as pixels."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aib_mm.errors import choose

#: Of the image in the file; of the image that the pipeline made of it, unpadded.
FRAMES = ('ori_shape', 'img_shape')


def resize_map(attention: Tensor, size: Sequence[int], smooth: bool = True) -> Tensor:
    """Attention ``(N, 1, h, w)`` at ``size``, ``(N, H, W)``.

    Args:
        attention: the maps.
        size: H and W.
        smooth: True for bilinear, else the nearest value, so that anchors stay anchors.
    """
    mode = 'bilinear' if smooth else 'nearest-exact'
    return F.interpolate(attention, tuple(size), mode=mode).squeeze(1)


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
        metainfo: facts of the data sample: ``batch_input_shape`` or ``pad_shape`` where
            there is padding, ``img_shape``, ``ori_shape``; ``scale_factor`` tells
            padding by the pipeline from image.
        frame: one of ``FRAMES``.
        smooth: whether to resize bilinearly, see ``resize_map``.

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


def boxes_mask(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Pixels ``(H, W)`` whose centre lies in any of the boxes, bool.

    Args:
        boxes: ``(n, 4)``, left, top, right, bottom; a pixel is 1 × 1 and the first one
            has its centre at 0.5.
        size: H and W.
    """
    boxes = boxes.to(torch.float64)
    rows, columns = (
        torch.arange(n, dtype=boxes.dtype, device=boxes.device) + 0.5 for n in size
    )
    in_columns = (columns >= boxes[:, 0:1]) & (columns < boxes[:, 2:3])
    in_rows = (rows >= boxes[:, 1:2]) & (rows < boxes[:, 3:4])
    # How many boxes hold a pixel, without a map for each box.
    return in_rows.double().T @ in_columns.double() > 0
