"""Runs a grid: the runs not done yet, a few at a time, collected as they end."""

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn

from aib_mm.diagnosis.configs import read_config
from aib_mm.errors import describe
from aib_mm.experiments.grid.guard import interruptible
from aib_mm.experiments.grid.notes import Result, Run, RunFailed, finished
from aib_mm.experiments.grid.progress import Position
from aib_mm.experiments.grid.results import GridResults
from aib_mm.experiments.grid.run import Execution
from aib_mm.experiments.progress import make_progress, say

#: A run at work: its stage and how far that is, and at the end its result.
Job = Generator[tuple[str, Position | None], None, Result]

JSON = 'results.json'
POLL_SECONDS = 0.25
INTERRUPTED = 130  # exit code, as of a shell
FULL = 0.999  # of a bar: at 1 rich stops its clock, but the run goes on


def plan(
    configs: Mapping[str, Config],
    seeds: Iterable[int],
    out: Path,
    load_from: Mapping[str, str] | None = None,
    **about: str,
) -> list[Run]:
    """Write each config to its folder below ``out``, and give a run for every seed.

    The runs get the written file, so that editing a config while the grid runs changes
    none.

    Args:
        configs: configs by their names; ``A/B`` gets the folder B in the folder A.
        load_from: names of configs, each with the one before it, of the same seed,
            whose weights its training begins with.
        about: ``data`` and ``leaves`` of ``Run.of``.
    """
    resolved = {}
    for name, cfg in configs.items():
        path = out / name / f'{Path(name).name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(str(path))
        resolved[name] = read_config(str(path))
    runs: dict[tuple[str, int], Run] = {}
    for seed in seeds:
        for name, cfg in resolved.items():
            begin = runs.get(((load_from or {}).get(name, ''), seed))
            runs[name, seed] = Run.of(cfg, name, seed, out / name, begin=begin, **about)
    return list(runs.values())


@dataclass
class Engine:
    """Does the runs of a grid and writes table and JSON after each.

    Attributes:
        results: results of the runs; filled in.
        out: folder of the files.
        environments: environment variables of the processes, for each run side by
            side.
        table: name of the table's file.
    """

    results: GridResults
    out: Path
    environments: Sequence[Mapping[str, str]]
    console: Console
    table: str = 'table.md'

    def __call__(self, force: bool = False) -> int:
        """Do what is not done yet, or, with ``force``, all; the program's exit code."""
        interrupted = self._run_all(force)
        report = self.results.report()
        report.show(self.console)
        for note in report.all_notes():
            say(self.console, note)
        written = self._write()
        for name in (self.table, JSON) if written else ():
            say(self.console, f'wrote {self.out / name}')
        if interrupted:
            say(self.console, 'interrupted; the same command goes on')
            return INTERRUPTED
        return int(bool(self.results.failures) or not written)

    def _run_all(self, force: bool) -> bool:
        """Fill in the results; true if a signal stopped it."""
        waiting = []
        for run in self.results.runs:
            if run in self.results.results or run in self.results.failures:
                continue
            done = None if force else finished(run)
            if done is None:
                waiting.append(run)
            else:
                self.results.results[run] = done
                say(self.console, f'{run.title}: already done in {run.work_dir}')
        free = list(self.environments)
        active: dict[_Shown, tuple[Job, Mapping[str, str]]] = {}
        status = TextColumn('{task.fields[status]}')
        with interruptible(), make_progress(self.console, status) as progress:
            try:
                while waiting or active:
                    for run in [run for run in waiting if self._may_start(run)]:
                        if not free:
                            break
                        waiting.remove(run)
                        environment = free.pop(0)
                        job = Execution(run, environment)(force)
                        active[_Shown(run, progress)] = job, environment
                    for shown, (job, environment) in list(active.items()):
                        if self._step(shown, job):
                            del active[shown]
                            free.append(environment)
                            self._write()
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                return True
            finally:
                for job, _ in active.values():
                    job.close()
        return False

    def _may_start(self, run: Run) -> bool:
        """Whether the run that it begins with, if any, has ended."""
        return run.begin is None or (
            run.begin in self.results.results or run.begin in self.results.failures
        )

    def _step(self, shown: '_Shown', job: Job) -> bool:
        """Let a run go on; true if it has ended."""
        run = shown.run
        try:
            shown(*next(job))
            return False
        except StopIteration as end:
            self.results.results[run] = end.value
            say(self.console, f'{run.title}: done')
        except (RunFailed, OSError, ValueError) as error:
            # For instance a full disk, or a file that is damaged.
            if not isinstance(error, RunFailed):
                error = RunFailed(describe(error), run.work_dir)
            self.results.failures[run] = str(error)
            say(self.console, f'{run.title}: FAILED, {error}\n{error.tail()}')
        shown.close()
        return True

    def _write(self) -> bool:
        """Write table and JSON; false if they cannot be, which stops no run."""
        report = self.results.report()
        try:
            for name in (JSON, self.table):
                report.write_to(self.out / name)
        except OSError as error:
            names = f'{self.table} and {JSON}'
            say(self.console, f'{names} are not up to date: {describe(error)}')
            return False
        return True


class _Shown:
    """A run as a bar on a terminal; elsewhere a line at each tenth of the training."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self.run = run
        self.progress = progress
        self._task = progress.add_task(escape(run.title), total=1.0, status='starting')
        self._said: set[tuple[str, int]] = set()

    def __call__(self, stage: str, position: Position | None) -> None:
        """Show how far ``'train'`` or ``'test'`` is."""
        share, text = position or (0.0, f'{stage} starts')
        done = None if share is None else min(share, FULL)
        self.progress.update(self._task, completed=done, status=escape(text))
        if share is None or (position and stage != 'train'):
            return
        at = (stage, int(10 * share) if position else -1)
        if self.progress.disable and at not in self._said:
            self._said.add(at)
            say(self.progress.console, f'{self.run.title}: {text}')

    def close(self) -> None:
        """Take the bar away."""
        self.progress.remove_task(self._task)
