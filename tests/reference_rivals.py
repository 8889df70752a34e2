"""Slow oracles of other people's attention, from their papers, with loops."""

import itertools
import math

import torch
from torch import Tensor


def positions(features: Tensor) -> list[tuple[int, int]]:
    """All (row, column) of ``(C, H, W)``."""
    return list(itertools.product(*map(range, features.shape[-2:])))


def dot(first: Tensor, second: Tensor) -> float:
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return sum(a * b for a, b in pairs)


def softmax(scores: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    total = sum(math.exp(score) for score in scores.values())
    return {place: math.exp(score) / total for place, score in scores.items()}


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def class_activation(features: Tensor, weights: Tensor) -> Tensor:
    """Zhou et al., Eq. 2, for one image ``(K, H, W)`` and one class ``(K,)``."""
    out = torch.zeros(features.shape[-2:], dtype=torch.float64)
    for row, column in positions(features):
        for k, weight in enumerate(weights.tolist()):
            out[row, column] += weight * float(features[k, row, column])
    return out


def attended_local(
    features: Tensor, u: Tensor, mapping: Tensor, g: Tensor
) -> tuple[Tensor, Tensor]:
    """Jetley et al.: ``c_i = <u, W l_i + g>``, softmax, ``g_a = sum_i a_i l_i``.

    Args:
        features: l, ``(C, H, W)``.
        u, g: ``(D,)``.
        mapping: W, ``(D, C)``.

    Returns:
        a ``(H, W)`` and g_a ``(C,)``.
    """
    scores = {}
    for row, column in positions(features):
        local = features[:, row, column]
        mapped = torch.stack([torch.tensor(dot(line, local)) for line in mapping])
        scores[row, column] = dot(u, mapped + g)
    return pooled(features, softmax(scores))


def pooled(
    features: Tensor, attention: dict[tuple[int, int], float]
) -> tuple[Tensor, Tensor]:
    out = torch.zeros(features.shape[0], dtype=torch.float64)
    maps = torch.zeros(features.shape[-2:], dtype=torch.float64)
    for (row, column), a in attention.items():
        out += a * features[:, row, column]
        maps[row, column] = a
    return maps, out


def local_context_scores(
    features: Tensor, first: Tensor, bias: Tensor, second: Tensor, last_bias: float
) -> dict[tuple[int, int], float]:
    """Seo et al.: the score of a position from its 3×3 neighbourhood, zeros outside.

    Args:
        features: ``(C, H, W)``.
        first, bias: of the hidden layer, ``(hidden, C, 3, 3)`` and ``(hidden,)``.
        second: ``(hidden,)``.
        last_bias: of the score.
    """
    _, height, width = features.shape
    scores = {}
    for row, column in positions(features):
        score = last_bias
        for hidden in range(len(bias)):
            value = float(bias[hidden])
            for down, right in itertools.product((-1, 0, 1), repeat=2):
                y, x = row + down, column + right
                if 0 <= y < height and 0 <= x < width:
                    value += dot(
                        first[hidden, :, down + 1, right + 1], features[:, y, x]
                    )
            score += float(second[hidden]) * max(value, 0.0)
        scores[row, column] = score
    return scores


def modulated(features: Tensor, attention: dict[tuple[int, int], float]) -> Tensor:
    out = torch.zeros_like(features)
    for (row, column), a in attention.items():
        out[:, row, column] = a * features[:, row, column]
    return out


def max_pooled(features: Tensor) -> Tensor:
    channels, height, width = features.shape
    out = torch.zeros(channels, height // 2, width // 2, dtype=features.dtype)
    for c, (y, x) in itertools.product(range(channels), positions(out)):
        out[c, y, x] = max(
            float(features[c, 2 * y + i, 2 * x + j]) for i in (0, 1) for j in (0, 1)
        )
    return out
