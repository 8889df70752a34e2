"""Scores to their nearest anchors, exactly, and as fast as each device can.

In sorted order the anchor nearest to a score is the one with as many bounds below it.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

#: Compiled, so many comparisons a score are faster than a search and a look-up.
FEW = 64


def decision_bounds(sorted_anchors: Tensor) -> Tensor:
    """The largest float that is still nearest to the lower of two neighbours.

    A midpoint rounded to float32 can lie on the wrong side of the true one. The
    midpoints are therefore taken in float64, with what even that rounds off, and
    rounded down: ``score <= bound`` then means "not nearer to the upper anchor" for
    every float.

    Args:
        sorted_anchors: ``(Q,)``, ascending.

    Returns:
        ``(Q - 1,)``, ascending.
    """
    halves = sorted_anchors.double() / 2
    lower, upper = halves[:-1], halves[1:]
    middle = lower + upper
    # Knuth's two-sum: middle + lost is the true midpoint.
    added = middle - lower
    lost = (lower - (middle - added)) + (upper - added)
    bounds = middle.to(sorted_anchors.dtype)
    below = torch.nextafter(bounds, bounds.new_full((), -torch.inf))
    return torch.where(bounds.double() - middle > lost, below, bounds)


class Anchors:
    """Anchors prepared for rounding scores to the nearest one.

    Args:
        anchors: ``(Q,)``, in any order, on the scores' device.
        count: how many scores there will be.

    Attributes:
        values: ``(Q,)``, ascending.
        order: int64, their places in ``anchors``.
    """

    def __init__(self, anchors: Tensor, count: int) -> None:
        traced = torch.compiler.is_compiling()
        # ONNX has no stable sort: there, of equal anchors any may be taken.
        stable = {} if traced else {'stable': True}
        self.values, self.order = anchors.detach().sort(**stable)
        self._search: Callable[[Tensor], Tensor]
        # In a compiled function torch's is_exporting says True as well.
        if traced and not torch.compiler.is_dynamo_compiling():
            self._search = functools.partial(_count_below, self.values)
            return
        bounds = decision_bounds(self.values)
        # The grid looks at values, which a FakeTensor does not have.
        if anchors.device.type == 'cpu' and type(self.values) is Tensor and not traced:
            self._search = Grid(bounds, self.values[0], self.values[-1], count).search
        else:
            self._search = functools.partial(
                torch.bucketize, boundaries=bounds, out_int32=True
            )

    def round(self, scores: Tensor, values: Tensor, indices: Tensor) -> None:
        """Write the nearest anchors of ``scores`` ``(N,)``, and their indices."""
        rank = self._search(scores)
        torch.index_select(self.values, 0, rank, out=values)
        # A score that is not finite must not pass for an anchor: 0 · inf is NaN.
        values.add_(scores, alpha=0)
        torch.index_select(self.order, 0, rank, out=indices)


def _count_below(sorted_anchors: Tensor, scores: Tensor) -> Tensor:
    """As ``Grid.search``, in operations that ONNX has."""
    halves = sorted_anchors.double() / 2
    return (scores.double().unsqueeze(-1) > halves[1:] + halves[:-1]).sum(-1)


def round_fused(
    scores: Tensor, anchors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, indices, the sum of squared errors, and of errors for each anchor.

    One comparison for each bound, which a compiler makes one loop over the scores that
    stores nothing but its results, and of these only the ones that are used.

    Args:
        scores: any shape.
        anchors: ``(Q,)``, in any order.
    """
    ordered, order = anchors.detach().sort()
    # Sorted as they are: what a sort gives is stored, while plain arithmetic would be
    # done anew for every score.
    bounds = decision_bounds(ordered).sort().values
    above = [scores > bound for bound in bounds]
    values = ordered[0].expand_as(scores)
    rank = torch.zeros_like(scores, dtype=torch.int32)
    for mask, anchor in zip(above, ordered[1:], strict=True):
        values = torch.where(mask, anchor, values)
        rank = rank + mask.int()
    values = values + 0.0 * scores  # as Anchors.round
    difference = scores - values
    beyond = [torch.where(mask, difference, 0.0).sum() for mask in above]
    sums = torch.stack([difference.sum(), *beyond, difference.new_zeros(())])
    pull = torch.zeros_like(sums[:-1]).scatter(0, order, sums[:-1] - sums[1:])
    return values, order[rank], difference.square().sum(), pull


class Grid:
    """Counts the bounds below each score, as ``torch.bucketize``, at a CPU's pace.

    A binary search among all bounds mispredicts half its branches. Here a table of
    equal cells says how many bounds lie before each cell, so that only those within
    the cell are left to search: none or one, as a rule.

    Exact however the cells are rounded: one monotone function places scores and
    bounds, so that the bounds of earlier cells are below a score, of later ones above.

    Args:
        bounds: ``(Q - 1,)``, ascending.
        low: where the first cell begins, a scalar.
        high: where the last one ends.
        count: how many scores there will be: for few, a large table does not pay.
    """

    CELLS = 2**13  # their table takes 32 KiB

    def __init__(self, bounds: Tensor, low: Tensor, high: Tensor, count: int) -> None:
        limits = torch.finfo(bounds.dtype)
        self.cells = self.CELLS if count > 2**16 else self.CELLS // 8
        width = (high - low).clamp_(limits.tiny * self.cells, limits.max)
        self.low = low
        self.scale = self.cells / width
        counts = torch.bincount(self._cell(bounds), minlength=self.cells)
        self.before = (counts.cumsum(0) - counts).int()
        self.steps = int(counts.max()).bit_length()
        self.bounds = torch.nn.functional.pad(
            bounds, (0, 2**self.steps), value=torch.inf
        )

    def search(self, scores: Tensor) -> Tensor:
        """``(N,)`` to int32 ``(N,)``; any count for a score that is no number."""
        rank = self.before.index_select(0, self._cell(scores))
        for step in reversed(range(self.steps)):
            jump = 2**step
            bound = self.bounds[jump - 1 :].index_select(0, rank)
            rank.add_(bound.lt_(scores).int(), alpha=jump)
        return rank

    def _cell(self, scores: Tensor) -> Tensor:
        last = self.cells - 1
        cell = (scores - self.low).mul_(self.scale).clamp_(0, last).int()
        return cell.clamp_(0, last)  # NaN as an integer is anything
