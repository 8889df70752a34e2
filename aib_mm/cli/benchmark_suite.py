"""``tools/benchmark.py --suite``: what the parts of this package cost, against aims.

Every row is a ratio of times of one run, taken in turn, so that what else the machine
does meets both sides alike.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from aib_mm.cli.grid_results import machine
from aib_mm.quantizer import VQAnchorQuantizer
from aib_mm.tables import ABSENT, Column, Table, markdown, terminal_table

LARGE, SMALL = (16, 1, 512, 512), (64, 1, 16, 16)
ANCHORS = (20, 50, 4096)
LEAST_ROUNDS = 10
PLAIN_WIDTH = 200
SHORTEST = 2e-3  # seconds; what takes less is repeated within a measurement


@dataclass(frozen=True)
class SuiteRow:
    """One thing measured.

    Attributes:
        name: of the row.
        what: is measured.
        aim: what it should reach, in ``unit``; none for what is there to compare.
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


def suite(rounds: int, threads: int, out: Sequence[Path], command: str) -> None:
    """Measure everything on the CPU, print and write the table.

    Args:
        rounds: how often; at least ``LEAST_ROUNDS``.
        threads: of PyTorch.
        out: files to write, the table (.md) or all numbers (.json).
        command: that was given, for the files.
    """
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    rounds = max(rounds, LEAST_ROUNDS)
    rows = [
        *_times('quantiser, large map', LARGE, 30.0, rounds),
        *_times('quantiser, small map', SMALL, 0.5, rounds),
        *(_memory(count) for count in ANCHORS),
    ]
    facts = machine()
    table = suite_table(rows)
    notes = [
        f'Medians of {rounds} rounds, CPU time of all threads; noise is half the range '
        'between the quartiles, a copy one clone of the map in the same round.',
        f'{facts["cpu"]}, {threads} threads; torch {facts["torch"]}.',
        f'Command: {command}',
    ]
    Console(width=PLAIN_WIDTH).print(terminal_table(table))
    print('\n'.join(notes))
    for path in out:
        if path.suffix == '.json':
            about = dict(command=command, rounds=rounds, threads=threads, **facts)
            content = dict(about=about, rows=[asdict(row) for row in rows])
            text = json.dumps(content, indent=2) + '\n'
        else:
            text = markdown(table, notes)
        path.write_text(text, encoding='utf-8')


def _times(
    name: str, shape: tuple[int, ...], aim: float, rounds: int
) -> list[SuiteRow]:
    scores, gradient = torch.rand(shape, requires_grad=True), torch.randn(shape)
    steps: list[Callable[[], Any]] = [partial(torch.clone, scores.detach())]
    steps += [
        partial(_step, VQAnchorQuantizer(count), scores, gradient) for count in ANCHORS
    ]
    copy, *found = timed(steps, rounds)
    size = '×'.join(map(str, shape))
    return [
        SuiteRow(
            f'{name}, Q = {count}',
            f'forward and backward of {size} scores',
            aim,
            1000 * statistics.median(seconds),
            'ms',
            1000 * spread(seconds),
            statistics.median(a / b for a, b in zip(seconds, copy, strict=True)),
        )
        for count, seconds in zip(ANCHORS, found, strict=True)
    ]


def _step(quantizer: VQAnchorQuantizer, scores: Tensor, gradient: Tensor) -> None:
    scores.grad = quantizer.anchors.grad = None
    result = quantizer(scores)
    torch.autograd.backward(
        (result.values, result.vq_loss, result.commit_loss),
        (gradient, None, None),
    )


def _memory(num_anchors: int) -> SuiteRow:
    scores, gradient = torch.rand(LARGE, requires_grad=True), torch.randn(LARGE)
    step = partial(_step, VQAnchorQuantizer(num_anchors), scores, gradient)
    return SuiteRow(
        f'quantiser, memory, Q = {num_anchors}',
        'peak of a step, results included, as a multiple of the map',
        5.0,
        peak_bytes(step) / scores.nbytes,
        'maps',
        0.0,
    )


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
    cells = [
        [
            row.name,
            row.what,
            ABSENT if row.aim is None else f'≤ {row.aim:g} {row.unit}',
            f'{row.measured:.2f} {row.unit}',
            f'± {row.noise:.2f}',
            ABSENT if row.copies is None else f'{row.copies:.0f}',
            ABSENT if row.aim is None else 'yes' if row.measured <= row.aim else 'no',
        ]
        for row in rows
    ]
    return Table([Column(head) for head in heads], cells)
