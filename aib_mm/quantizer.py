"""Attention scores rounded to the nearest of Q learnable anchors (paper, 3.2.1)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aib_mm.errors import check_count, choose
from aib_mm.gaussian import REDUCTIONS
from aib_mm.rounding import FEW, Anchors, round_fused

BLOCK = 2**16  # scores


class Quantized(NamedTuple):
    """What ``VQAnchorQuantizer`` returns; shapes as its input.

    ``values`` are the anchors taken, ``indices`` (int64) their places in
    ``VQAnchorQuantizer.anchors``; ``vq_loss`` and ``commit_loss`` are scalars.
    """

    values: Tensor
    vq_loss: Tensor
    commit_loss: Tensor
    indices: Tensor


def _blocks(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Flat views of maps of one shape, on a CPU by pieces that stay in its cache."""
    flat = [tensor.reshape(-1) for tensor in maps]
    if flat[0].device.type != 'cpu' or torch.compiler.is_compiling():
        return iter([tuple(flat)])
    return zip(*(tensor.split(BLOCK) for tensor in flat), strict=True)


def nearest_anchor(scores: Tensor, anchors: Tensor) -> Tensor:
    """Index of the anchor nearest to each score (paper, Eq. 15).

    Exact, and on a CPU as fast for many anchors as for few.

    Args:
        scores: any shape.
        anchors: ``(Q,)``, in any order.

    Returns:
        int64, as ``scores``. Exactly between two anchors the lower one is taken.
    """
    return _quantize(scores, anchors).indices


class _Rounded(NamedTuple):
    """Scores rounded, and sums of ``score - value``.

    ``error`` is that of the squares, ``pull`` ``(Q,)`` that over each anchor's scores.
    """

    values: Tensor
    indices: Tensor
    error: Tensor
    pull: Tensor


def _quantize(scores: Tensor, anchors: Tensor) -> _Rounded:
    if torch.compiler.is_dynamo_compiling() and len(anchors) <= FEW:
        return _Rounded(*round_fused(scores, anchors))
    prepared = Anchors(anchors, scores.numel())
    values = torch.empty_like(scores, memory_format=torch.contiguous_format)
    indices = torch.empty_like(values, dtype=torch.int64)
    error = anchors.new_zeros(())
    pull = torch.zeros_like(anchors)
    for block, value, index in _blocks(scores, values, indices):
        prepared.round(block, value, index)
        difference = block - value
        # Sums of their own lose less to rounding than one over the map.
        pull += torch.zeros_like(pull).scatter_add_(0, index, difference)
        error += difference.dot(difference)
    return _Rounded(values, indices, error, pull)


class _StraightThrough(torch.autograd.Function):
    """Look-up with both losses in one pass over the map.

    Eq. 16 and 17 have the same value and differ in who receives the gradient. That of
    the anchors is known with the value, and needs no second pass.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values, indices, error, pull = _quantize(scores, anchors)
        ctx.count = max(scores.numel(), 1)
        ctx.save_for_backward(scores, values, pull)
        ctx.mark_non_differentiable(indices)
        ctx.set_materialize_grads(False)  # zeros for the indices: two maps
        loss = error / ctx.count
        return values, loss, loss.clone(), indices

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        grad_values: Tensor | None,
        grad_vq: Tensor | None,
        grad_commit: Tensor | None,
        _: None,
    ) -> tuple[Tensor, Tensor]:
        scores, values, pull = ctx.saved_tensors
        slope = 2.0 / ctx.count
        commit = 0.0 if grad_commit is None else slope * grad_commit
        given = torch.zeros_like(values) if grad_values is None else grad_values
        grad_scores = torch.empty_like(values)
        maps = _blocks(scores, values, given, grad_scores)
        for score, value, gradient, out in maps:
            torch.sub(score, value, out=out).mul_(commit).add_(gradient)
        return grad_scores, pull * (0.0 if grad_vq is None else -slope * grad_vq)


@MODELS.register_module()
class VQAnchorQuantizer(BaseModule):
    """Round every score to the nearest of ``num_anchors`` learnable values.

    The gradient of the rounded map is handed to the scores unaltered (straight-through,
    paper 3.2.1). The anchors learn from ``vq_loss`` alone, the scores' producer also
    from ``commit_loss``:

    - ``vq_loss = mean((sg[a] - a_q)²)``, paper Eq. 16;
    - ``commit_loss = mean((a - sg[a_q])²)``, paper Eq. 17.

    The anchors are sorted anew in every forward pass, so they stay usable when learning
    makes them cross; ``indices`` refer to ``anchors`` as stored.

    Args:
        num_anchors: Q. The paper finds 20 to 50 best.
        value_range: the anchors start evenly spaced over it, both ends included; a
            single anchor starts in the middle.
        reduction: ``'mean'`` over all scores, as the authors' released code; ``'sum'``
            over a map, then the mean over maps: the squared norm as Eq. 16 and 17
            print it.

    Raises:
        ValueError: fewer than one anchor, an empty range, an unknown reduction.
    """

    def __init__(
        self,
        num_anchors: int = 20,
        value_range: tuple[float, float] = (0.0, 1.0),
        reduction: str = 'mean',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_count('num_anchors', num_anchors, 1)
        choose('reduction', reduction, REDUCTIONS)
        low, high = value_range
        if not low < high:
            raise ValueError(f'value_range must be (low, high), got {value_range!r}')
        if num_anchors == 1:
            start = torch.tensor([(low + high) / 2])
        else:
            start = torch.linspace(low, high, num_anchors)
        self.anchors = nn.Parameter(start)
        self.reduction = reduction

    def forward(self, scores: Tensor) -> Quantized:
        """Quantise ``scores``, ``(..., 1, H, W)`` or any other shape.

        Half-precision scores are rounded in float32, the anchors' own precision.
        Where a score is NaN or infinite, its value is NaN, and so are the losses; this
        costs no look at the numbers, for which a GPU would have to stop.
        """
        with torch.autocast(scores.device.type, enabled=False):
            result = Quantized(
                *_StraightThrough.apply(scores.to(self.anchors.dtype), self.anchors)
            )
        if self.reduction == 'mean':
            return result
        area = scores.shape[-2:].numel()
        return result._replace(
            vq_loss=result.vq_loss * area, commit_loss=result.commit_loss * area
        )

    def extra_repr(self) -> str:
        return f'num_anchors={self.anchors.numel()}, reduction={self.reduction!r}'


def anchor_usage(indices: Tensor, num_anchors: int) -> Tensor:
    """Share of positions that took each anchor, ``(Q,)``, summing to 1."""
    counts = torch.bincount(indices.flatten(), minlength=num_anchors)
    return counts / indices.numel()


def perplexity(usage: Tensor) -> Tensor:
    """How many anchors are in use, effectively: ``exp(entropy)``, 1 to Q."""
    return torch.special.entr(usage).sum().exp()
