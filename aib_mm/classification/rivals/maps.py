"""Attention maps from scores of positions, and features from maps."""

from torch import Tensor

from aib_mm.gaussian import at_least_float32


def sigmoid_map(scores: Tensor) -> Tensor:
    """``sigmoid(s)``: each position by itself, in [0, 1]; float32 also under autocast.

    Args:
        scores: ``(B, 1, H, W)``.
    """
    return at_least_float32(scores).sigmoid()


def softmax_map(scores: Tensor) -> Tensor:
    """``a_i = exp(s_i) / sum_j exp(s_j)`` over the positions of one image.

    Args:
        scores: ``(B, 1, H, W)``.

    Returns:
        ``(B, 1, H, W)``, summing to 1 over H and W; float32 also under autocast.
    """
    return at_least_float32(scores).flatten(1).softmax(dim=1).view_as(scores)


def weighted_sum(attention: Tensor, features: Tensor) -> Tensor:
    """``sum_i a_i f_i``: ``(B, 1, H, W)`` and ``(B, C, H, W)`` to ``(B, C)``."""
    return (attention * features).sum(dim=(2, 3))
