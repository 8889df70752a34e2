"""Place of the attention: on the image, and against the object's mask.

The measures take a batch of maps and a batch of masks of the same size, so that the
resizing, which is a choice, is the caller's and visible. Values that differ by rounding
alone are equal (``ties``): a map whose whole range is rounding is constant.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from aib_mm.interpret.measure.regions import check_flags
from aib_mm.interpret.ties import rounding_of


def attention_energy(attention: Tensor, mask: Tensor) -> Tensor:
    """Share of the attention that lies on the object, ``(N,)`` in [0, 1].

    The minimum of each map is taken off first, since a constant selects nothing; a map
    that is constant has its energy spread evenly, and so the mask's share of the area.

    Args:
        attention: ``(N, H, W)``.
        mask: ``(N, H, W)``, bool.
    """
    check_flags('(N, H, W)', attention=attention, mask=mask)
    maps = attention.flatten(1).double()
    above = maps - maps.amin(dim=1, keepdim=True)
    constant = above.amax(dim=1, keepdim=True) <= rounding_of(maps)
    uniform = torch.full_like(maps, 1.0 / maps.shape[1])
    share = torch.where(constant, uniform, above / above.sum(dim=1, keepdim=True))
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
    check_flags('(N, H, W)', attention=attention, mask=mask)
    maps = attention.flatten(1).double()
    peak = maps >= maps.amax(dim=1, keepdim=True) - rounding_of(maps)
    hits = peak & dilate(mask, tolerance).flatten(1)
    return hits.sum(dim=1).double() / peak.sum(dim=1)


def attention_iou(attention: Tensor, mask: Tensor, threshold: float = 0.5) -> Tensor:
    """Intersection over union of the thresholded map and the object, ``(N,)``.

    Each map is brought to [0, 1] by its minimum and maximum, and holds the positions
    that reach the threshold, or miss it by rounding alone. Of a map that is constant it
    holds all of them, so that the IoU is the mask's share of the area.

    Args:
        attention: ``(N, H, W)``.
        mask: ``(N, H, W)``, bool, with an object in each: NaN for one without, of which
            there is nothing to find.
        threshold: share of the range, in [0, 1].

    Raises:
        ValueError: shapes or types that do not fit, another threshold.
    """
    check_flags('(N, H, W)', attention=attention, mask=mask)
    check_threshold('threshold', threshold)
    maps, objects = attention.flatten(1).double(), mask.flatten(1)
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    held = maps - low >= threshold * (high - low) - rounding_of(maps)
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


def dilate(mask: Tensor, pixels: int) -> Tensor:
    """Grow a bool mask ``(N, H, W)`` by ``pixels`` in all eight directions."""
    size = 2 * pixels + 1
    grown = F.max_pool2d(mask.unsqueeze(1).float(), size, stride=1, padding=pixels)
    return grown.squeeze(1) > 0


class ObjectSettings(NamedTuple):
    """Settings of the measures against an object.

    Attributes:
        tolerance: tolerance of ``pointing_game``, in pixels.
        threshold: threshold of ``attention_iou``, in [0, 1].
    """

    tolerance: int = 1
    threshold: float = 0.5


class ObjectMeasure(NamedTuple):
    """A measure of maps ``(N, H, W)`` against masks, ``(N,)`` in [0, 1].

    Attributes:
        head: head of its column in a table; '' for a measure of the mask alone.
        of: function from maps, masks and settings to values.
    """

    head: str
    of: Callable[[Tensor, Tensor, ObjectSettings], Tensor]


#: What evaluators and tables report, in this order.
ON_OBJECT = {
    'energy': ObjectMeasure(
        'energy on object', lambda maps, masks, _: attention_energy(maps, masks)
    ),
    'area': ObjectMeasure('', lambda _, masks, __: masks.double().mean(dim=(1, 2))),
    'pointing': ObjectMeasure(
        'pointing game',
        lambda maps, masks, how: pointing_game(maps, masks, how.tolerance),
    ),
    'chance': ObjectMeasure(
        '', lambda _, masks, how: dilate(masks, how.tolerance).double().mean(dim=(1, 2))
    ),
    'iou': ObjectMeasure(
        'IoU', lambda maps, masks, how: attention_iou(maps, masks, how.threshold)
    ),
}


def measure_on_object(
    attention: Tensor, mask: Tensor, settings: ObjectSettings
) -> dict[str, Tensor]:
    """Every measure of ``ON_OBJECT``, ``(N,)`` each, NaN for a mask without an object.

    Maps and masks, bool, are ``(N, H, W)``.
    """
    found = mask.flatten(1).any(dim=1)
    return {
        name: torch.where(found, measure.of(attention, mask, settings), torch.nan)
        for name, measure in ON_OBJECT.items()
    }
