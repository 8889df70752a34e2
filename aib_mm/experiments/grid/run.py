"""One run of a grid: a config and a seed, trained and tested by the tools' programs."""

import json
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aib_mm.errors import describe
from aib_mm.experiments.grid.notes import (
    Result,
    Run,
    RunFailed,
    Training,
    finished,
    noted_training,
    write_note,
)
from aib_mm.experiments.grid.progress import Position, pace_in, position_in, read_tail
from aib_mm.training.checkpoint import (
    POINTER,
    RESUME_KEYS,
    CheckpointError,
    check_checkpoint,
    named_checkpoint,
)
from aib_mm.utils.files import finite
from aib_mm.utils.shipped import shipped

#: While a program works: its name, and how far it is where that is known.
Progress = tuple[str, Position | None]


@dataclass
class Execution:
    """Trains and tests one run.

    Attributes:
        environment: environment variables of the processes.
    """

    run: Run
    environment: Mapping[str, str]

    def __call__(self, force: bool = False) -> Generator[Progress, None, Result]:
        """Do what is missing: the training, from its last checkpoint, and the test.

        A generator that yields as long as a process works. Closing it ends the process
        and notes what was done.

        Args:
            force: train anew in any case.

        Raises:
            RunFailed: a process ended with an error, or left no result; an earlier
                note cannot be read.
            OSError: a note cannot be written.
        """
        folder = self.run.work_dir
        folder.mkdir(parents=True, exist_ok=True)
        training = None if force else noted_training(self.run)
        if self.run.checkpoint is not None:
            training = Training(self.run.training, str(self.run.checkpoint))
        if training is None:
            # Whatever else lies here belongs to other settings.
            (folder / POINTER).unlink(missing_ok=True)
            training = Training(self.run.training)
        if training.checkpoint is None:
            training = yield from self._train(training)
        metrics, seconds = yield from self._test(folder / str(training.checkpoint))
        result = Result(self.run.whole, training, seconds, metrics)
        write_note(folder / 'run.json', result)
        return result

    def _train(self, training: Training) -> Generator[Progress, None, Training]:
        folder = self.run.work_dir
        start = _last_checkpoint(folder, RESUME_KEYS)
        weights = ['--resume', str(start)] if start else self._load_from()
        if start is None:
            # Nothing else here is taken instead: it may belong to other settings.
            (folder / POINTER).unlink(missing_ok=True)
            training = Training(self.run.training)
        note, log = folder / 'training.json', folder / 'train.log'
        (folder / 'run.json').unlink(missing_ok=True)
        training = replace(training, starts=training.starts + 1)
        write_note(note, training)
        began = time.perf_counter()
        try:
            yield from self._call('train', [*weights, '--work-dir', str(folder)], log)
            last = _last_checkpoint(folder)
            if last is None:
                raise RunFailed('train left no checkpoint', log)
        except BaseException:
            # A full disk that stopped the training stops the note too.
            with suppress(OSError):
                write_note(note, _timed(training, began))
            raise
        seconds, memory = pace_in(log.read_text('utf-8', 'replace'))
        training = replace(
            _timed(training, began),
            checkpoint=last.name,
            speed=self.run.batch_size / seconds if seconds else None,
            memory=memory,
        )
        write_note(note, training)
        return training

    def _load_from(self) -> list[str]:
        """What a new training begins with."""
        begin = self.run.begin
        if begin is None:
            return []
        done = finished(begin)
        if done is None:
            problem = f'{begin.title}, whose weights it begins with, is not done'
            raise RunFailed(problem, begin.work_dir)
        return ['--load-from', str(begin.work_dir / str(done.training.checkpoint))]

    def _test(
        self, checkpoint: Path
    ) -> Generator[Progress, None, tuple[dict[str, Any], float]]:
        folder = self.run.work_dir
        out, log = folder / 'metrics.json', folder / 'test.log'
        out.unlink(missing_ok=True)
        arguments = [str(checkpoint), '--work-dir', str(folder / 'test')]
        arguments += ['--out', str(out), '--out-item', 'metrics']
        began = time.perf_counter()
        yield from self._call('test', arguments, log)
        seconds = round(time.perf_counter() - began, 1)
        try:
            return dict(**finite(json.loads(out.read_text()))), seconds
        except (OSError, ValueError, TypeError) as error:
            problem = f'test left no metrics that can be read ({describe(error)})'
            raise RunFailed(problem, log) from error

    def _call(
        self, program: str, arguments: list[str], log: Path
    ) -> Generator[Progress, None, None]:
        tool = shipped(f'tools/{program}.py')
        command = [sys.executable, str(tool), str(self.run.config), *arguments]
        command += ['--seed', str(self.run.seed)]
        with log.open('a' if '--resume' in arguments else 'w') as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment,
                close_fds=False,  # it holds the grid's lock as long as it lives
            )
        try:
            while process.poll() is None:
                yield program, position_in(read_tail(log), self.run.max_epochs)
        finally:
            _end(process)
        if process.returncode:
            raise RunFailed(f'{program} ended with {process.returncode}', log)


def _end(process: subprocess.Popen) -> None:
    """Make sure that a process is gone; its data loaders' workers follow it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_checkpoint(folder: Path, keys: tuple[str, ...] = ()) -> Path | None:
    """The last checkpoint of a work folder, which may have been moved, if usable."""
    named = named_checkpoint(folder)
    if named is None:
        return None
    path = folder / Path(named).name
    try:
        check_checkpoint(path, keys)
    except CheckpointError:
        return None
    return path


def _timed(training: Training, began: float) -> Training:
    spent = training.seconds + time.perf_counter() - began
    return replace(training, seconds=round(spent, 1))
