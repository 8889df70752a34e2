"""How ``tools/benchmark.py --suite`` measures, and the table that it prints.

Every time is of the CPU, and every ratio of one round, in which all sides take their
turn: what else the machine does meets them alike.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from aib_mm.tables import ABSENT, Column, Table

LEAST_ROUNDS = 10
SHORTEST = 2e-3  # seconds; what takes less is repeated within a measurement
RATIO = '×'


@dataclass(frozen=True)
class SuiteRow:
    """One thing measured.

    Attributes:
        name: of the row.
        what: is measured.
        aim: what it should not exceed, in ``unit``; none for what is there to compare.
        measured: the median.
        unit: of ``measured``.
        noise: half the range between the quartiles, in ``unit``.
        copies: ``measured`` as a multiple of one copy of the map, timed in turn.
    """

    name: str
    what: str
    aim: float | None
    measured: float
    unit: str
    noise: float
    copies: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the aim is; None without one."""
        return None if self.aim is None else self.measured <= self.aim

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return dict(asdict(self), reached=self.reached)


def median_row(
    name: str, what: str, aim: float | None, values: Sequence[float], unit: str = RATIO
) -> SuiteRow:
    """A row of the median of values, one for each round."""
    return SuiteRow(name, what, aim, statistics.median(values), unit, spread(values))


def ratios(times: Sequence[float], base: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(times, base, strict=True)]


def timed(steps: Sequence[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Seconds of the CPU that each step takes, round by round, after a first one."""
    repeats = []
    for step in steps:
        step()
        start = time.process_time()
        step()
        repeats.append(max(1, round(SHORTEST / (time.process_time() - start))))
    found: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, count, seconds in zip(steps, repeats, found, strict=True):
            start = time.process_time()
            for _ in range(count):
                step()
            seconds.append((time.process_time() - start) / count)
    return found


def spread(values: Sequence[float]) -> float:
    """Half the range between the quartiles; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method='inclusive')
    return (high - low) / 2


def peak_bytes(step: Callable[[], Any]) -> int:
    """Most memory of tensors that a step on the CPU held beyond what was there."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU],
        profile_memory=True,
        acc_events=True,
    ) as profile:
        step()
    events = profile.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def suite_table(rows: Sequence[SuiteRow]) -> Table:
    """A line for each row."""
    heads = ('name', 'what', 'aim', 'measured', 'noise', 'copies of the map', 'reached')
    answers = {None: ABSENT, True: 'yes', False: 'no'}
    cells = [
        [
            row.name,
            row.what,
            ABSENT if row.aim is None else f'≤ {row.aim:.4g} {row.unit}',
            f'{row.measured:.2f} {row.unit}',
            f'± {row.noise:.2f}',
            ABSENT if row.copies is None else f'{row.copies:.0f}',
            answers[row.reached],
        ]
        for row in rows
    ]
    return Table([Column(head) for head in heads], cells)
