"""Slide inference: what lies on each window, put together over the whole input.

The windows are those of mmseg, which its models tell by their ``test_cfg``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aib_mm.features import AttentionMaps

Levels = tuple[AttentionMaps, ...]


@dataclass(frozen=True)
class Windows:
    """Windows of one size that cover an input, in the order of the passes.

    Attributes:
        size: H and W of the input, in pixels, with its padding.
        boxes: top, left, bottom and right of each.
    """

    size: tuple[int, int]
    boxes: tuple[tuple[int, int, int, int], ...]

    def average(self, maps: Sequence[Tensor]) -> Tensor:
        """The mean of the windows that lie over a position, as mmseg takes the logits.

        Args:
            maps: one for each window, ``(..., h, w)``.

        Returns:
            ``(..., H', W')``: the grid of the windows' maps, continued over the input.
            Where windows do not begin on that grid, weighted by area.
        """
        total = maps[0].new_zeros(*maps[0].shape[:-2], *self.size)
        count = maps[0].new_zeros(self.size)
        for (top, left, bottom, right), values in zip(self.boxes, maps, strict=True):
            pixels = _nearest(values, (bottom - top, right - left))
            total[..., top:bottom, left:right] += pixels
            count[top:bottom, left:right] += 1
        mean = (total / count).view(-1, 1, *self.size)
        mean = F.interpolate(mean, self._grid(maps[0]), mode='area')
        return mean.view(*total.shape[:-2], *mean.shape[-2:])

    def last(self, maps: Sequence[Tensor]) -> Tensor:
        """The value of the last window over a position; shapes as in ``average``."""
        whole = maps[0].new_zeros(*maps[0].shape[:-2], *self.size)
        for (top, left, bottom, right), values in zip(self.boxes, maps, strict=True):
            pixels = _nearest(values, (bottom - top, right - left))
            whole[..., top:bottom, left:right] = pixels
        return _nearest(whole, self._grid(maps[0]))

    def join(self, passes: Sequence[Levels]) -> Levels:
        """The attention of all windows, per level.

        Means, stds and prices are averaged. Samples are the last window's: each window
        drew its own, and the mean of two draws, or of two anchors, is neither.
        """
        return tuple(self._join(level) for level in zip(*passes, strict=True))

    def _join(self, maps: Sequence[AttentionMaps]) -> AttentionMaps:
        joined: dict[str, Any] = {}
        for name, values in zip(
            AttentionMaps._fields, zip(*maps, strict=True), strict=True
        ):
            join = self.last if name in ('samples', 'indices') else self.average
            joined[name] = None if values[0] is None else join(values)
        return AttentionMaps(**joined)

    def _grid(self, of_window: Tensor) -> tuple[int, int]:
        top, left, bottom, right = self.boxes[0]
        height, width = of_window.shape[-2:]
        return (
            max(1, round(self.size[0] * height / (bottom - top))),
            max(1, round(self.size[1] * width / (right - left))),
        )


def _nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """What ``F.interpolate(mode='nearest-exact')`` gives, for int64 too."""
    rows, columns = (
        ((torch.arange(new, device=values.device) + 0.5) * old / new).long()
        for new, old in zip(size, values.shape[-2:], strict=True)
    )
    return values[..., rows[:, None], columns]


def slide_windows(model: nn.Module, size: tuple[int, int]) -> Windows | None:
    """The windows in which a segmentor predicts an input of ``size``.

    Returns:
        None for a model that takes this input as a whole.
    """
    cfg = getattr(model, 'test_cfg', None)
    if not isinstance(cfg, Mapping) or cfg.get('mode') != 'slide':
        return None
    rows, columns = (
        _starts(*lengths)
        for lengths in zip(size, cfg['crop_size'], cfg['stride'], strict=True)
    )
    height, width = (min(pair) for pair in zip(size, cfg['crop_size'], strict=True))
    boxes = [(y, x, y + height, x + width) for y in rows for x in columns]
    return Windows(size, tuple(boxes)) if len(boxes) > 1 else None


def _starts(length: int, crop: int, stride: int) -> list[int]:
    """Starts of the windows; the last one ends with the input."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - crop), 0) for i in range(count)]


def whole_levels(passes: Sequence[Levels], windows: Windows | None) -> Levels | None:
    """The attention of one prediction, from the passes through one module.

    Returns:
        None for several passes that are not those of the windows.
    """
    if len(passes) == 1:
        return passes[0]
    if windows is None or len(passes) != len(windows.boxes):
        return None
    return windows.join(passes)
