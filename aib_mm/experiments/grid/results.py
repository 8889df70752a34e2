"""What a grid writes: one table of all configs, its notes, and every run as JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any

from aib_mm.errors import is_number
from aib_mm.experiments.grid.against import CONFIDENCE, difference_cell
from aib_mm.experiments.grid.notes import Result, Run
from aib_mm.experiments.report import Report
from aib_mm.utils.tables import Column, Table, digits_for, mean_cell


@dataclass(frozen=True)
class Measure:
    """A column of the results: key in the JSON file, head, and where it is from."""

    key: str
    head: str
    digits: int
    value: Callable[[Result], float | None]
    meaning: str = ''


TIMES = (
    Measure(
        'train_seconds',
        'train s',
        0,
        lambda result: result.training.seconds,
        'Wall time of training, with the time to start.',
    ),
    Measure(
        'test_seconds',
        'test s',
        0,
        lambda result: result.test_seconds,
        'Wall time of testing, with the time to start and all Monte Carlo samples.',
    ),
)


@dataclass
class GridResults:
    """The runs of a grid and what became of each.

    Attributes:
        titles: titles of the configs by their names, in the order of the table.
        runs: all that was asked for.
        command: words as typed.
        jobs, threads: runs side by side, and threads of each.
        metrics: the columns in their order; empty for all that were reported.
        measures: columns instead of metrics and times; one that no run has is left out.
        heads: what the columns before them are called: config, number of seeds done.
        about: what else the numbers depend on, for the JSON file.
        remarks: the same in sentences.
        against: config that a second table compares the others with; '' for none.
        margins: differences that do not matter, by metric.
    """

    titles: Mapping[str, str]
    runs: Sequence[Run]
    command: str
    jobs: int
    threads: str
    metrics: Sequence[str] = ()
    measures: Sequence[Measure] = ()
    heads: Sequence[str] = ('config', 'seeds')
    about: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    against: str = ''
    margins: Mapping[str, float] = field(default_factory=dict)
    results: dict[Run, Result] = field(default_factory=dict)
    failures: dict[Run, str] = field(default_factory=dict)

    def reported(self) -> list[str]:
        """Every numeric metric, NaN included, in the order of the runs."""
        return numeric_names(result.metrics for result in self.done())

    def done(self, config: str | None = None) -> list[Result]:
        """Results of a config, or of all, in the order of the runs."""
        return [
            self.results[run]
            for run in self.runs
            if run in self.results and config in (None, run.name)
        ]

    def table(self) -> Table:
        """One row a config: mean ± sample standard deviation over its seeds."""
        measures, rows = self._columns(), []
        for config, title in self.titles.items():
            done = self.done(config)
            cells = [seeds_cell([m.value(r) for r in done], m.digits) for m in measures]
            lead = [title, str(len(done))][: len(self.heads)]
            rows.append([*lead, *cells])
        columns = [Column(m.head, m.meaning) for m in measures]
        return Table([*map(Column, self.heads), *columns], rows)

    def tables(self) -> Mapping[str, Table]:
        """The tables of the report, by title."""
        if not self.against:
            return {'': self.table()}
        title = f'Against {self.titles[self.against]}'
        return {'': self.table(), title: self._differences()}

    def _differences(self) -> Table:
        """One row a config: its difference to the one named, with Welch's interval."""
        measures = [m for m in self._columns() if m not in TIMES]
        base, rows = self.done(self.against), []
        for config, title in self.titles.items():
            if config == self.against:
                continue
            done = self.done(config)
            cells = [
                difference_cell(
                    numbers(map(m.value, done)),
                    numbers(map(m.value, base)),
                    m.digits,
                    self.margins.get(m.key),
                )
                for m in measures
            ]
            rows.append([title, *cells])
        columns = [Column(m.head, m.meaning) for m in measures]
        return Table([Column(self.heads[0]), *columns], rows)

    def notes(self) -> list[str]:
        """What the numbers are, what they depend on, and what is missing."""
        seeds = list(dict.fromkeys(run.seed for run in self.runs))
        spread = '; ± is the sample standard deviation over seeds' * (len(seeds) > 1)
        notes = [
            *self.remarks,
            f'Seed{"s" * (len(seeds) > 1)} {", ".join(map(str, seeds))}{spread}. The '
            'last checkpoint of each training, tested with its seed.',
            f'Seconds are wall time of the program, its start included; {self.jobs} '
            f'run{"s" * (self.jobs > 1)} at a time, threads of each: {self.threads}.',
        ]
        if self.against:
            notes.append(
                f'Against: difference of the means with its {CONFIDENCE:.0%} interval '
                '(Welch), and what that decides.'
            )
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

    def report(self) -> Report:
        """Table and notes, and every run with its metrics and its ``measures``."""
        runs = [
            dict(
                config=run.name,
                title=self.titles[run.name],
                seed=run.seed,
                work_dir=str(run.work_dir),
                failure=self.failures.get(run),
                **(self._known(self.results[run]) if run in self.results else {}),
            )
            for run in self.runs
        ]
        about = dict(command=self.command, jobs=self.jobs, threads=self.threads)
        about.update(self.about)
        return Report('results', self.tables(), self.notes(), about, dict(runs=runs))

    def _known(self, result: Result) -> dict[str, Any]:
        values = {m.key: m.value(result) for m in self.measures}
        values = {key: value for key, value in values.items() if value is not None}
        return dict(asdict(result), **({'values': values} if values else {}))

    def _columns(self) -> list[Measure]:
        done = self.done()
        if self.measures:
            return [
                m for m in self.measures if any(m.value(r) is not None for r in done)
            ]
        columns = []
        for name in self.metrics or self.reported():
            value = metric(name)
            digits = digits_for([n for n in map(value, done) if n is not None])
            columns.append(Measure(name, name, digits, value))
        return [*columns, *TIMES]


def numeric_names(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the values that are numbers, or None instead of NaN, in their order."""
    items = (item for values in found for item in values.items())
    no_bools = (item for item in items if not isinstance(item[1], bool))
    return [*dict.fromkeys(k for k, v in no_bools if isinstance(v, Real | None))]


def metric(name: str, scale: float = 1) -> Callable[[Result], float | None]:
    """Function that looks up a metric times ``scale``; None in a result without it."""

    def value(result: Result) -> float | None:
        found = result.metrics.get(name)
        return scale * found if is_number(found) else None

    return value


def top1_error(result: Result) -> float | None:
    """Top-1 error of a classifier, %; None in a result without its accuracy."""
    right = metric('accuracy/top1')(result)
    return None if right is None else 100 - right


def seeds_cell(values: Sequence[Any], digits: int) -> str:
    """Mean ± sample standard deviation of the finite numbers, n if not all are."""
    found = numbers(values)
    fewer = f' (n={len(found)})' if 0 < len(found) < len(values) else ''
    return mean_cell(found, digits) + fewer


def numbers(values: Iterable[Any]) -> list[float]:
    """Those of the values that are finite numbers."""
    return [value for value in values if is_number(value)]
