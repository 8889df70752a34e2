"""Attention scores rounded to the nearest of Q learnable anchors (paper, 3.2.1)."""

from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aib_mm.errors import check_count, choose, is_number
from aib_mm.gaussian import REDUCTIONS


class Quantized(NamedTuple):
    """What ``VQAnchorQuantizer`` returns; shapes as its input.

    ``values`` are the anchors taken, ``indices`` (int64) their places in
    ``VQAnchorQuantizer.anchors``; ``vq_loss`` and ``commit_loss`` are scalars.
    """

    values: Tensor
    vq_loss: Tensor
    commit_loss: Tensor
    indices: Tensor


def nearest_anchor(scores: Tensor, anchors: Tensor) -> Tensor:
    """Index of the anchor nearest to each score (paper, Eq. 15), exactly.

    In sorted order it is the anchor with as many midpoints below it as the score.

    Args:
        scores: any shape; the precision of the anchors.
        anchors: ``(Q,)``, in any order.

    Returns:
        int64, as ``scores``. Exactly between two anchors the lower one is taken.
    """
    traced = torch.compiler.is_compiling()
    # ONNX has no stable sort: there, of equal anchors any may be taken.
    ordered, order = anchors.detach().sort(**({} if traced else {'stable': True}))
    if traced:  # for compilers and ONNX, which know neither bucketize nor nextafter
        middle, lost = _midpoints(ordered)
        rank = (scores.double().unsqueeze(-1) - middle > lost).sum(dim=-1)
    else:
        rank = torch.bucketize(scores.contiguous(), decision_bounds(ordered))
    return order[rank]


def decision_bounds(sorted_anchors: Tensor) -> Tensor:
    """The largest float that is still nearest to the lower of two neighbours.

    A midpoint rounded to float32 can lie on the wrong side of the true one. It is
    therefore rounded down: ``score <= bound`` then means "not nearer to the upper
    anchor" for every float.

    Args:
        sorted_anchors: ``(Q,)``, ascending.

    Returns:
        ``(Q - 1,)``, ascending.
    """
    middle, lost = _midpoints(sorted_anchors)
    bounds = middle.to(sorted_anchors.dtype)
    below = torch.nextafter(bounds, bounds.new_full((), -torch.inf))
    return torch.where(bounds.double() - middle > lost, below, bounds)


def _midpoints(sorted_anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Midpoints ``(Q - 1,)`` in float64, and what even that rounds off of each."""
    halves = sorted_anchors.double() / 2
    lower, upper = halves[:-1], halves[1:]
    middle = lower + upper
    # Knuth's two-sum: middle + lost is the true midpoint.
    added = middle - lower
    return middle, (lower - (middle - added)) + (upper - added)


class _StraightThrough(torch.autograd.Function):
    """Look-up with both losses, which have the same value (paper, Eq. 16 and 17).

    They differ in who receives the gradient. Sums are taken in float64: over a large
    map float32 would lose what single anchors learn from.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        indices = nearest_anchor(scores, anchors)
        # A score that is not finite must not pass for an anchor: 0 · inf is NaN.
        values = anchors[indices] + 0.0 * scores
        error = (scores - values).double()
        # Sum of the errors of each anchor's scores, (Q,).
        pull = error.new_zeros(len(anchors))
        pull = pull.scatter_add(0, indices.flatten(), error.flatten())
        ctx.slope = 2.0 / max(scores.numel(), 1)
        ctx.save_for_backward(scores, values, pull)
        ctx.mark_non_differentiable(indices)
        ctx.set_materialize_grads(False)  # zeros for the indices: two maps
        loss = (error.square().sum() * (ctx.slope / 2)).to(anchors.dtype)
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
        commit, vq = (0.0 if g is None else g for g in (grad_commit, grad_vq))
        grad_scores = ctx.slope * commit * (scores - values)
        if grad_values is not None:
            grad_scores = grad_scores + grad_values
        return grad_scores, (-ctx.slope * vq * pull).to(values.dtype)


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
        is_range = isinstance(value_range, list | tuple) and len(value_range) == 2
        if not is_range or not all(map(is_number, value_range)):
            raise ValueError(
                f'value_range must be two finite numbers, got {value_range!r}'
            )
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
    """Effective number of anchors in use: ``exp(entropy)``, 1 to Q."""
    return torch.special.entr(usage).sum().exp()
