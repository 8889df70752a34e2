"""Attention scores rounded to the nearest of Q learnable anchors (paper, 3.2.1)."""

from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aib_mm.errors import check_count, choose
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


def decision_bounds(sorted_anchors: Tensor) -> Tensor:
    """The largest float that is still nearest to the lower of two neighbours.

    A midpoint rounded to float32 can lie on the wrong side of the true one. The
    midpoints are therefore taken in float64, where they are exact, and rounded down:
    ``score <= bound`` then means "not nearer to the upper anchor" for every float.

    Args:
        sorted_anchors: ``(Q,)``, ascending.

    Returns:
        ``(Q - 1,)``, ascending.
    """
    exact = sorted_anchors.double()
    middle = (exact[1:] + exact[:-1]) / 2
    bounds = middle.to(sorted_anchors.dtype)
    below = torch.nextafter(bounds, torch.full_like(bounds, -torch.inf))
    return torch.where(bounds.double() > middle, below, bounds)


def nearest_anchor(scores: Tensor, anchors: Tensor) -> Tensor:
    """Index of the anchor nearest to each score (paper, Eq. 15), in O(log Q).

    Args:
        scores: any shape.
        anchors: ``(Q,)``, in any order.

    Returns:
        int64, as ``scores``. Exactly between two anchors the lower one is taken.
    """
    ordered, order = anchors.detach().sort(stable=True)
    bounds = decision_bounds(ordered)
    rank = torch.bucketize(scores.contiguous(), bounds, out_int32=True)
    return order[rank]


class _StraightThrough(torch.autograd.Function):
    """Look-up with both losses in one pass over the map.

    Eq. 16 and 17 have the same value and differ in who receives the gradient, so one
    difference map, kept for the backward pass, serves both.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        indices = nearest_anchor(scores, anchors)
        # A score that is no number must not pass for an anchor.
        values = torch.where(scores.isnan(), scores, anchors[indices])
        difference = scores - values
        ctx.count = max(difference.numel(), 1)
        loss = difference.square().sum() / ctx.count
        ctx.save_for_backward(difference, indices)
        ctx.num_anchors = anchors.numel()
        ctx.mark_non_differentiable(indices)
        return values, loss, loss.clone(), indices

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_values: Tensor, grad_vq: Tensor, grad_commit: Tensor, _: Any
    ) -> tuple[Tensor, Tensor]:
        difference, indices = ctx.saved_tensors
        slope = 2.0 / ctx.count
        grad_scores = torch.addcmul(grad_values, difference, slope * grad_commit)
        pull = difference.new_zeros(ctx.num_anchors)
        pull.index_add_(0, indices.flatten(), difference.flatten())
        return grad_scores, (-slope * grad_vq) * pull


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
