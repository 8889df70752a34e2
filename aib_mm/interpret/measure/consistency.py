"""Whether attention stays where it is on an edited image (paper, 4.3 and Table 8).

The interpretability score is "the proportion of attention-consistent samples in
prediction-consistent samples". The prediction is consistent where image and edited
image get the same class; the attention, where the cosine similarity of the two
flattened, normalised maps reaches a threshold. The paper prints neither the threshold
nor what it calls normalised: both are arguments here, and the area under the score's
curve over all thresholds in [0, 1] needs no threshold at all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from aib_mm.errors import choose
from aib_mm.interpret.measure.regions import check_flags
from aib_mm.interpret.ties import SCORE_ROUNDING, rounding_of

NORMALIZATIONS = ('minmax', 'standard', 'none')


def normalize_maps(maps: Tensor, how: str = 'minmax') -> Tensor:
    """Maps ``(N, ...)`` flattened to ``(N, P)`` and normalised, in float64.

    Args:
        maps: one per sample.
        how: ``'minmax'``, to [0, 1]; ``'standard'``, to mean 0, so that the cosine is
            Pearson's correlation; ``'none'``. The scale of a map does not matter to a
            cosine; what counts is the offset that is taken off.

    Returns:
        A constant map, which prefers no position, becomes all zeros under ``'minmax'``
        and ``'standard'``; a map is constant if its whole range is rounding (``ties``).

    Raises:
        ValueError: an unknown normalisation.
    """
    choose('how', how, NORMALIZATIONS)
    flat = maps.flatten(1).double()
    if how == 'none':
        return flat
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    constant = high - low <= rounding_of(flat)
    if how == 'minmax':
        normalized = (flat - low) / (high - low)
    else:
        centred = flat - flat.mean(dim=1, keepdim=True)
        normalized = centred / centred.norm(dim=1, keepdim=True)
    return torch.where(constant, torch.zeros_like(flat), normalized)


def map_similarity(maps: Tensor, others: Tensor, how: str = 'minmax') -> Tensor:
    """Cosine similarity of the normalised maps of each sample, ``(N,)`` float64.

    In [0, 1] for ``'minmax'``, in [-1, 1] for ``'standard'``. The cosine of a map of
    zeros does not exist: of two of them the similarity is 1, since neither prefers a
    position, and of one and any other map 0.

    Args:
        maps: ``(N, ...)``.
        others: maps of the same shape.
        how: normalisation, see ``normalize_maps``.

    Raises:
        ValueError: shapes that differ, or an unknown normalisation.
    """
    if maps.shape != others.shape:
        raise ValueError(
            f'two maps per sample must have one size, got {tuple(maps.shape)} and '
            f'{tuple(others.shape)}'
        )
    a, b = normalize_maps(maps, how), normalize_maps(others, how)
    lengths = a.norm(dim=1), b.norm(dim=1)
    product = lengths[0] * lengths[1]
    cosine = ((a * b).sum(dim=1) / product).clamp(-1, 1)
    neither = (lengths[0] == 0) & (lengths[1] == 0)
    return torch.where(product == 0, neither.to(cosine), cosine)


def consistency_score(
    similarity: Tensor, same_prediction: Tensor, threshold: float
) -> float:
    """Share, in [0, 1], of the prediction-consistent samples whose attention is too.

    Args:
        similarity: ``(N,)``, from ``map_similarity``.
        same_prediction: ``(N,)``, bool.
        threshold: the attention is consistent from this similarity on, and where it
            misses it by rounding alone (``ties.SCORE_ROUNDING``).

    Returns:
        NaN where no prediction is consistent.

    Raises:
        ValueError: shapes or types that do not fit.
    """
    return consistency_curve(similarity, same_prediction, [threshold])[0]


def consistency_curve(
    similarity: Tensor, same_prediction: Tensor, thresholds: Sequence[float]
) -> list[float]:
    """``consistency_score`` at each of the thresholds."""
    kept = _consistent(similarity, same_prediction)
    return [
        (kept >= threshold - SCORE_ROUNDING).double().mean().item()
        for threshold in thresholds
    ]


def consistency_area(similarity: Tensor, same_prediction: Tensor) -> float:
    """Area under the curve over all thresholds from 0 to 1, in [0, 1]; NaN as there.

    It is exact, not a sum over some thresholds: the integral of the share of
    similarities that reach t is the mean of the similarities, negative ones as 0.
    """
    return _consistent(similarity, same_prediction).clamp(0, 1).mean().item()


def _consistent(similarity: Tensor, same_prediction: Tensor) -> Tensor:
    """The similarities that count."""
    check_flags('(N,)', similarity=similarity, same_prediction=same_prediction)
    return similarity[same_prediction]
