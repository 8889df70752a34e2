"""A grid's rows against one of them: differences over seeds, with their intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import ttest_ind

from aib_mm.errors import UsageError
from aib_mm.utils.tables import ABSENT

CONFIDENCE = 0.95


class Difference(NamedTuple):
    """Mean of some values less that of others, with Welch's 95 % interval."""

    mean: float
    low: float
    high: float

    def cell(self, digits: int) -> str:
        """``+1.20 [-0.10, 2.50]``."""
        return (
            f'{self.mean:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]'
        )

    def verdict(self, margin: float | None = None) -> str:
        """What the interval decides, in a word.

        Args:
            margin: difference that does not matter, in the values' unit.

        Returns:
            ``'higher'`` or ``'lower'`` where the interval excludes 0; with a margin
            ``'equal within …'``, ``'not lower by …'`` or ``'not higher by …'`` where it
            excludes that; else ``'undecided'``.
        """
        if self.low > 0 or self.high < 0:
            return 'higher' if self.low > 0 else 'lower'
        if margin is None:
            return 'undecided'
        above, below = self.low >= -margin, self.high <= margin
        if above and below:
            return f'equal within {margin:g}'
        if above or below:
            return f'not {"lower" if above else "higher"} by {margin:g}'
        return 'undecided'


def difference(values: Sequence[float], others: Sequence[float]) -> Difference | None:
    """Welch's difference of two samples; None where one has fewer than two values."""
    if min(len(values), len(others)) < 2:
        return None
    mean = float(np.mean(values) - np.mean(others))
    # A sample that never varies has no t, and its mean no doubt.
    if np.ptp(values) == np.ptp(others) == 0:
        return Difference(mean, mean, mean)
    test = ttest_ind(values, others, equal_var=False)
    low, high = map(float, test.confidence_interval(CONFIDENCE))
    return Difference(mean, low, high)


def difference_cell(
    values: Sequence[float], others: Sequence[float], digits: int, margin: float | None
) -> str:
    """Difference, interval and verdict of two samples; a dash with too few values."""
    found = difference(values, others)
    if found is None or math.isnan(found.low):
        return ABSENT
    return f'{found.cell(digits)} {found.verdict(margin)}'


def read_margins(texts: Sequence[str]) -> Mapping[str, float]:
    """Margins by metric, from words ``KEY=NUMBER``.

    Raises:
        UsageError: another form, or a number that is not positive.
    """
    margins = {}
    for text in texts:
        key, _, number = text.rpartition('=')
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not key or not 0 < value < math.inf:
            raise UsageError(
                f'--margin takes KEY=NUMBER, such as accuracy/top1=1, got {text!r}'
            )
        margins[key] = value
    return margins
