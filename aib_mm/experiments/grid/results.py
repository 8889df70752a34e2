"""What a grid writes: one table of all configs, its notes, and every run as JSON."""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from aib_mm.experiments.grid.notes import Result, Run
from aib_mm.utils.tables import Column, Table, digits_for, mean_cell
from aib_mm.version import __version__


@dataclass
class GridResults:
    """The runs of a grid and what became of each.

    Attributes:
        titles: of each config by its name, in the order of the table.
        runs: all that was asked for.
        metrics: the columns in their order; empty for all that were reported.
        command: as typed.
        jobs, threads: runs side by side, and threads of each.
    """

    titles: Mapping[str, str]
    runs: Sequence[Run]
    metrics: Sequence[str]
    command: str
    jobs: int
    threads: str
    results: dict[Run, Result] = field(default_factory=dict)
    failures: dict[Run, str] = field(default_factory=dict)

    def reported(self) -> list[str]:
        """Every metric that is a number, or none (NaN), in the order of the runs."""
        return list(
            dict.fromkeys(
                name
                for run in self.runs
                if run in self.results
                for name, value in self.results[run].metrics.items()
                if value is None or is_number(value)
            )
        )

    def table(self) -> Table:
        """One row a config: mean ± sample standard deviation over its seeds."""
        names = list(self.metrics) or self.reported()
        columns = ['config', 'seeds', *names, 'train s', 'test s']
        digits = {
            name: digits_for(list(filter(is_number, self._values(name))))
            for name in names
        }
        rows = []
        for config, title in self.titles.items():
            done = self._done(config)
            cells = [seeds_cell(self._values(n, config), digits[n]) for n in names]
            times = [
                mean_cell([result.training.seconds for result in done], 0),
                mean_cell([result.test_seconds for result in done], 0),
            ]
            rows.append([title, str(len(done)), *cells, *times])
        return Table([Column(head) for head in columns], rows)

    def notes(self) -> list[str]:
        """What the numbers are, what they depend on, and what is missing."""
        seeds = list(dict.fromkeys(run.seed for run in self.runs))
        spread = '; ± is the sample standard deviation over seeds' * (len(seeds) > 1)
        notes = [
            f'Seed{"s" * (len(seeds) > 1)} {", ".join(map(str, seeds))}{spread}. The '
            'last checkpoint of each training, tested with its seed.',
            f'Seconds are wall time of the program, its start included; {self.jobs} '
            f'run{"s" * (self.jobs > 1)} at a time, threads of each: {self.threads}.',
            f'`{self.command}`',
            '{cpu}, {cores} cores; {gpu}; torch {torch}, aib_mm {aib_mm}.'.format(
                **machine()
            ),
        ]
        unknown = [name for name in self.metrics if name not in self.reported()]
        if unknown and self.results:
            notes.append(
                f'No run reported {", ".join(unknown)}; there are '
                f'{", ".join(self.reported())}.'
            )
        resumed = [r.title for r, e in self.results.items() if e.training.starts > 1]
        if resumed:
            notes.append(f'Interrupted and resumed: {", ".join(sorted(resumed))}.')
        notes += [f'{run.title}: {why}.' for run, why in self.failures.items()]
        missing = len(self.runs) - len(self.results) - len(self.failures)
        if missing:
            notes.append(f'{missing} of {len(self.runs)} runs are not done yet.')
        return notes

    def as_json(self) -> dict[str, Any]:
        """Every run with all its metrics."""
        about = dict(command=self.command, jobs=self.jobs, threads=self.threads)
        runs = [
            dict(
                config=run.name,
                title=self.titles[run.name],
                seed=run.seed,
                work_dir=str(run.work_dir),
                failure=self.failures.get(run),
                **(asdict(self.results[run]) if run in self.results else {}),
            )
            for run in self.runs
        ]
        return dict(about={**about, **machine()}, runs=runs)

    def _done(self, config: str | None = None) -> list[Result]:
        """Results of a config, or of all, in the order of the runs."""
        return [
            self.results[run]
            for run in self.runs
            if run in self.results and config in (None, run.name)
        ]

    def _values(self, metric: str, config: str | None = None) -> list[Any]:
        return [result.metrics.get(metric) for result in self._done(config)]


def seeds_cell(values: Sequence[Any], digits: int) -> str:
    """Mean ± sample standard deviation of the finite numbers, n if not all are."""
    numbers = [value for value in values if is_number(value)]
    fewer = f' (n={len(numbers)})' if 0 < len(numbers) < len(values) else ''
    return mean_cell(numbers, digits) + fewer


def machine() -> dict[str, Any]:
    """What measured times and, in the last digits, results depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'
    return dict(
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        gpu=gpu,
        torch=torch.__version__,
        aib_mm=__version__,
    )


def cpu_name() -> str:
    """The processor as the system names it."""
    facts = Path('/proc/cpuinfo')
    if facts.is_file():
        for line in facts.read_text(encoding='utf-8').splitlines():
            key, _, value = line.partition(':')
            if key.strip() == 'model name':
                return value.strip()
    return platform.machine()


def is_number(value: Any) -> bool:
    """A number that is finite."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value)
