"""One run of a grid: a config and a seed, trained and tested by the tools' programs."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from aib_mm.errors import describe
from aib_mm.experiments.grid.notes import (
    Result,
    Run,
    RunFailed,
    Training,
    noted_training,
    read_json,
    write_note,
)
from aib_mm.experiments.grid.progress import Position, position_in, read_tail
from aib_mm.training.checkpoint import (
    POINTER,
    RESUME_KEYS,
    CheckpointError,
    check_checkpoint,
    named_checkpoint,
)
from aib_mm.utils.files import finite

POLL_SECONDS = 0.5


class Stopped(Exception):
    """The grid was interrupted while this run was under way."""


class Execution:
    """Trains and tests one run.

    Args:
        environment: of the processes.
        stop: once set, the process is ended and ``Stopped`` raised.
        report: gets the stage and the position, now and then.
    """

    def __init__(
        self,
        run: Run,
        environment: Mapping[str, str],
        stop: threading.Event,
        report: Callable[[str, Position], None],
    ) -> None:
        self.run = run
        self.environment = environment
        self.stop = stop
        self.report = report

    def __call__(self, force: bool = False) -> Result:
        """What is not done yet: the training, from its last checkpoint, and the test.

        Args:
            force: train anew in any case.

        Raises:
            RunFailed: a process ended with an error, or left no result; an earlier
                note cannot be read.
            OSError: a note cannot be written.
            Stopped: the grid was interrupted.
        """
        if self.stop.is_set():
            raise Stopped
        folder = self.run.work_dir
        folder.mkdir(parents=True, exist_ok=True)
        training = None if force else noted_training(self.run)
        if training is None:
            # Whatever else lies here belongs to other settings.
            (folder / POINTER).unlink(missing_ok=True)
            training = Training(self.run.training)
        if training.checkpoint is None:
            training = self._train(training)
        metrics, seconds = self._test(folder / str(training.checkpoint))
        result = Result(self.run.whole, training, seconds, metrics)
        write_note(folder / 'run.json', result)
        return result

    def _train(self, training: Training) -> Training:
        folder = self.run.work_dir
        start = _last_checkpoint(folder, RESUME_KEYS)
        resume = [] if start is None else ['--resume', str(start)]
        if start is None:
            # Nothing else here is taken instead: it may belong to other settings.
            (folder / POINTER).unlink(missing_ok=True)
            training = Training(self.run.training)
        note = folder / 'training.json'
        (folder / 'run.json').unlink(missing_ok=True)
        training = replace(training, starts=training.starts + 1)
        write_note(note, training)
        began = time.perf_counter()
        try:
            self._call('train', [*resume, '--work-dir', str(folder)], 'train.log')
            last = _last_checkpoint(folder)
            if last is None:
                raise RunFailed('train left no checkpoint', folder / 'train.log')
        except BaseException:
            # A full disk that stopped the training stops the note too.
            with suppress(OSError):
                write_note(note, _timed(training, began))
            raise
        training = replace(_timed(training, began), checkpoint=last.name)
        write_note(note, training)
        return training

    def _test(self, checkpoint: Path) -> tuple[dict[str, Any], float]:
        folder = self.run.work_dir
        out = folder / 'metrics.json'
        out.unlink(missing_ok=True)
        arguments = [str(checkpoint), '--work-dir', str(folder / 'test')]
        began = time.perf_counter()
        self._call(
            'test', [*arguments, '--out', str(out), '--out-item', 'metrics'], 'test.log'
        )
        seconds = round(time.perf_counter() - began, 1)
        try:
            return finite(read_json(out)), seconds
        except (OSError, ValueError) as error:
            problem = f'test left no metrics that can be read ({describe(error)})'
            raise RunFailed(problem, folder / 'test.log') from error

    def _call(self, program: str, arguments: list[str], log_name: str) -> None:
        log = self.run.work_dir / log_name
        command = [sys.executable, '-m', f'aib_mm.cli.{program}', str(self.run.config)]
        command += [*arguments, '--seed', str(self.run.seed)]
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
            self._watch(process, program, log)
        finally:
            _end(process)
        if process.returncode:
            raise RunFailed(f'{program} ended with {process.returncode}', log)

    def _watch(self, process: subprocess.Popen, program: str, log: Path) -> None:
        while True:
            try:
                process.wait(POLL_SECONDS)
                return
            except subprocess.TimeoutExpired:
                pass
            if self.stop.is_set():
                raise Stopped
            position = position_in(read_tail(log), self.run.max_epochs)
            if position is not None:
                self.report(program, position)


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
