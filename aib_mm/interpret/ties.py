"""Ties: values that differ by rounding alone, which no measure may tell apart.

The last digits of a map change with the batch size, the number of threads and the
instruction set of the processor. A measure that sorts a map, looks for its maximum or
cuts it at a threshold would otherwise jump with them wherever many positions have
nearly one value: a saturated sigmoid, a map without preference, an anchor.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Share of a map's largest magnitude that counts as rounding. Between batch sizes,
#: numbers of threads and AVX-512, AVX2 and no vectors the maps of VGG and of wide
#: residual networks differ by up to 1e-6 of it.
ROUNDING = 1e-5
#: The same for scores in [0, 1], entropies in nats and cosines, by whatever magnitude.
SCORE_ROUNDING = 1e-6


def rounding_of(values: Tensor) -> Tensor:
    """Largest difference that is rounding, ``(N, 1)`` for values ``(N, P)``."""
    return ROUNDING * values.abs().amax(dim=1, keepdim=True)


def tie_ranks(values: Tensor, tolerance: Tensor) -> Tensor:
    """Places of values from the highest, 0, on; ties share one, ``(N, P)`` integers.

    Neighbours in the sorted values whose gap is at most the tolerance are tied. A slope
    of such gaps can be longer than the tolerance; it is cut into the cells of a grid as
    wide as the tolerance, with 0 and, where the tolerance is that of ``rounding_of``,
    the largest magnitude in the middle of cells. Values that rounding moves across a
    cell's edge change places with others within one tolerance.

    Args:
        values: ``(N, P)``.
        tolerance: ``(N, 1)``, not negative.
    """
    ordered, order = values.sort(dim=1, descending=True, stable=True)
    # Gaps of NaN are no ties either.
    apart = ~(ordered[:, :-1] - ordered[:, 1:] <= tolerance)
    slopes = F.pad(apart.cumsum(dim=1), (1, 0))
    highest, lowest = (
        torch.zeros_like(ordered)
        .scatter_reduce(1, slopes, ordered, how, include_self=False)
        .gather(1, slopes)
        for how in ('amax', 'amin')
    )
    is_long = highest - lowest > tolerance
    cells = (ordered / tolerance).round()
    apart |= is_long[:, 1:] & (cells[:, 1:] != cells[:, :-1])
    ranks = F.pad(apart.cumsum(dim=1), (1, 0))
    return torch.zeros_like(order).scatter(1, order, ranks)
