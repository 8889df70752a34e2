"""A benchmark: what configs cost beside the first, all in one process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from aib_mm.experiments.cost.model import Subject, profiled
from aib_mm.experiments.cost.results import LAYOUTS, Cost, cost_table, count_table
from aib_mm.experiments.cost.timing import timed
from aib_mm.experiments.grid.rows import Row
from aib_mm.experiments.progress import make_console
from aib_mm.experiments.provenance import machine, machine_line
from aib_mm.training.toolkits import toolkit_of
from aib_mm.utils.files import json_text, write_atomically
from aib_mm.utils.tables import Table, markdown, terminal_table


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        subjects: the models by their names.
        table: a row or a column for each of them.
        notes: lines below the table.
        numbers: what was found of each model, as plain containers.
        profiles: the longest operators of the last model, by mode.
    """

    subjects: Mapping[str, Subject]
    table: Table
    notes: Sequence[str]
    numbers: Sequence[Mapping[str, Any]]
    profiles: Mapping[str, str] = field(default_factory=dict)

    def publish(self, command: str, out: Sequence[Path]) -> None:
        """Print it; write its table (``.md``) or all numbers (``.json``)."""
        first = next(iter(self.subjects.values()))
        height, width = first.size
        notes = [
            'GMAC: multiply-accumulates of convolutions and matrix products for one '
            f'image of {height}x{width}, in 10⁹.',
            *self.notes,
            f'Command: {command}',
        ]
        make_console().print(terminal_table(self.table))
        print('\n'.join(notes))
        for mode, profile in self.profiles.items():
            print(f'\n{[*self.subjects][-1]}, {mode}:\n{profile}')
        about = dict(size=first.size, batch=first.batch, device=first.device)
        configs = [
            dict(config=name, **found)
            for name, found in zip(self.subjects, self.numbers, strict=True)
        ]
        content = dict(
            about=dict(command=command, **about, **machine()), configs=configs
        )
        for path in out:
            is_json = path.suffix == '.json'
            text = json_text(content) if is_json else markdown(self.table, notes)
            write_atomically(path, text)


def make_subjects(
    rows: Sequence[Row],
    options: Sequence[str],
    size: tuple[int, int],
    batch: int,
    device: str | None = None,
) -> dict[str, Subject]:
    """The models of configs by their titles.

    Args:
        rows: the configs.
        options: ``KEY=VALUE`` texts that change all of them.
        size: height and width of the images.
        batch: images of a pass.
        device: ``'cpu'`` or ``'cuda'``; None for a GPU if there is one.

    Raises:
        UsageError: a config cannot be read, or is none of a known toolkit.
    """
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    configs = {row.title: row.load(options) for row in rows}
    for cfg in configs.values():
        toolkit_of(cfg)
    return {title: Subject(cfg, size, batch, device) for title, cfg in configs.items()}


def count(subjects: Mapping[str, Subject]) -> Report:
    """Count parameters and operations of models, without a clock."""
    counts = [subject.count() for subject in subjects.values()]
    return Report(subjects, count_table([*subjects], counts), [], counts)


def measure(
    subjects: Mapping[str, Subject],
    samples: Sequence[int],
    rounds: int,
    threads: int,
    *,
    train: bool = True,
    layout: str = LAYOUTS[0],
    profile: int = 0,
) -> Report:
    """Measure models, with ratios to the first.

    Args:
        subjects: the models by their names.
        samples: numbers of attention samples at test; 0 also takes the mean latent.
        rounds: how often every pass is timed.
        threads: how many torch may use on the CPU.
        train: whether to measure a training step too.
        layout: one of ``LAYOUTS``.
        profile: how many operators of the last model to list for each mode.
    """
    modes: dict[str, int | None] = {f'test, L_a = {one}': one for one in samples}
    if train:
        modes['training step'] = None
    models = [*subjects.values()]
    measured: dict[str, list[Cost]] = {}
    profiles = {}
    for mode, number in modes.items():
        measured[mode] = _costs(models, number, rounds, threads)
        if profile:
            profiles[mode] = profiled(models[-1].step(number), profile)
    clock = 'CPU time of all threads' if models[0].device == 'cpu' else 'wall time'
    notes = [
        f'{clock} of {models[0].batch} images, median of {rounds} rounds; ratios are '
        'of the same round. Images/s, the batch at a time, and the time of one image '
        'alone are wall time, which other work on the machine makes worse. MiB: peak '
        "of the tensors, weights and in training the optimizer's state among them.",
        f'{threads} threads; {machine_line()}',
    ]
    numbers = [
        {'modes': [dict(mode=mode, **costs[i]) for mode, costs in measured.items()]}
        for i in range(len(models))
    ]
    table = cost_table([*subjects], measured, layout)
    return Report(subjects, table, notes, numbers, profiles)


def _costs(
    models: Sequence[Subject], samples: int | None, rounds: int, threads: int
) -> list[Cost]:
    """What each model costs with so many samples at test, or None in training."""
    steps = [model.step(samples) for model in models]
    alone = [] if samples is None else [model.step(samples, True) for model in models]
    times = timed([*steps, *alone], rounds, threads)
    latencies = [wall for wall, _ in times[len(models) :]] or [[] for _ in models]
    return [
        dict(
            seconds=used if model.device == 'cpu' else wall,
            wall=wall,
            throughput=[model.batch / seconds for seconds in wall],
            latency=latency,
            memory=model.memory(step),
            macs=model.macs(step)['all'],
            parameters=model.parameters(),
        )
        for model, step, (wall, used), latency in zip(
            models, steps, times[: len(models)], latencies, strict=True
        )
    ]
