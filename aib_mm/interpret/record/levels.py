"""The maps of a model's levels, combined into one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from aib_mm.features import AttentionMaps
from aib_mm.interpret.record.geometry import resize_map
from aib_mm.interpret.record.information import BITS


def combine_levels(
    attention: Sequence[AttentionMaps], level: str | int = 'mean'
) -> tuple[Tensor, Tensor]:
    """One map of means and one of stds from those of all levels.

    Args:
        attention: one of each level; sizes may differ, the batch may not.
        level: ``'mean'`` over all levels, each first resized bilinearly to the finest;
            or the index of the level to take alone, -1 for the last.

    Returns:
        ``(B, 1, H, W)`` each. The second is the mean of the levels' stds.

    Raises:
        ValueError: there is no such level.
    """
    if level == 'mean':
        finest = max((maps.mean for maps in attention), key=Tensor.numel)
        height, width = finest.shape[-2:]
        mean, std = (
            torch.stack([resize_map(level, (height, width)) for level in levels])
            for levels in zip(*(maps[:2] for maps in attention), strict=True)
        )
        return mean.mean(dim=0).unsqueeze(1), std.mean(dim=0).unsqueeze(1)
    maps = _level(attention, level)
    return maps.mean, maps.std


def combine_bits(
    attention: Sequence[AttentionMaps], level: str | int = 'mean'
) -> Tensor | None:
    """Bits that each position lets through, on the levels of ``combine_levels``.

    Several levels are summed on the finest one's grid. A coarse position's bits are
    shared out among those that it lies over, so that their sum stays what it was
    (about so, where a size does not divide the other).

    Returns:
        ``(B, 1, H, W)``; None where the neck does not report them
        (``modulation='replace'`` does).

    Raises:
        ValueError: there is no such level.
    """
    levels = attention if level == 'mean' else [_level(attention, level)]
    nats = [maps.nats for maps in levels if maps.nats is not None]
    if len(nats) < len(levels) or not nats:
        return None
    height, width = max(nats, key=Tensor.numel).shape[-2:]
    shares = [x.shape[-2] * x.shape[-1] / (height * width) for x in nats]
    placed = [
        share * F.interpolate(x, (height, width), mode='nearest-exact')
        for share, x in zip(shares, nats, strict=True)
    ]
    return BITS * torch.stack(placed).sum(dim=0)


def _level(attention: Sequence[AttentionMaps], level: str | int) -> AttentionMaps:
    assert isinstance(level, int)
    if level >= len(attention):
        raise ValueError(
            f'level must be less than {len(attention)}, the number of levels that have '
            f'attention, got {level}'
        )
    return attention[level]
