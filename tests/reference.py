"""Slow oracles, written from the paper's equations with loops, in float64."""

import math

import torch
from torch import Tensor


def kl_eq19(mean: Tensor, std: Tensor) -> float:
    """Eq. 19 for one latent: ``mean`` and ``std`` are ``(K,)``."""
    dims = len(mean)
    total = 0.0
    for i in range(dims):
        mu, sigma = float(mean[i]), float(std[i])
        total += 1 + math.log(sigma**2) - mu**2 - sigma**2
    return -total / (2 * dims)


def nearest_eq15(score: float, anchors: list[float]) -> set[int]:
    """Eq. 15 for one score: every index that attains the minimum, ties included."""
    distances = [abs(score - anchor) for anchor in anchors]
    least = min(distances)
    return {i for i, distance in enumerate(distances) if distance == least}


def squared_norm_eq16(scores: Tensor, quantized: Tensor) -> float:
    """Eq. 16 and 17 have this value; ``(...)`` in, mean over elements out."""
    total = 0.0
    pairs = list(
        zip(scores.flatten().tolist(), quantized.flatten().tolist(), strict=True)
    )
    for score, value in pairs:
        total += (score - value) ** 2
    return total / len(pairs)


def modulate_pixelwise(x: Tensor, a: Tensor, how: str) -> Tensor:
    """Section 3.3.1, scale and residual, one position at a time: ``(N, C, H, W)``."""
    out = torch.empty_like(x)
    for n, c, h, w in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        scaled = x[n, c, h, w] * a[n, 0, h, w]
        out[n, c, h, w] = scaled if how == 'scale' else x[n, c, h, w] + scaled
    return out


def energy(attention: Tensor, mask: Tensor) -> float:
    """Share of one map ``(H, W)``, its minimum taken off, inside one mask."""
    values = attention.flatten().tolist()
    low = min(values)
    inside = total = 0.0
    for value, on_object in zip(values, mask.flatten().tolist(), strict=True):
        total += value - low
        inside += (value - low) if on_object else 0.0
    return inside / total


def iou(
    attention: Tensor, mask: Tensor, threshold: float, rounding: float = 0.0
) -> float:
    """Of one map's positions at ``threshold`` of its range or above, and one mask.

    A position may miss the threshold by ``rounding``, a share of the largest magnitude.
    """
    values = attention.flatten().tolist()
    low, high = min(values), max(values)
    missed = rounding * max(abs(low), abs(high))
    shared = either = 0
    for value, on_object in zip(values, mask.flatten().tolist(), strict=True):
        held = value - low >= threshold * (high - low) - missed
        shared += held and on_object
        either += held or on_object
    return shared / either


def perplexity(counts: list[int]) -> float:
    """exp of the entropy of a histogram."""
    total = sum(counts)
    shares = [count / total for count in counts if count]
    return math.exp(-sum(share * math.log(share) for share in shares))
