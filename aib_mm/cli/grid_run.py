"""One run of a grid: a config and a seed, trained and tested by the tools' programs."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config

from aib_mm.checkpoint import RESUME_KEYS, CheckpointError, check_checkpoint
from aib_mm.cli.common import fingerprint
from aib_mm.cli.grid_progress import Position, position_in

POLL_SECONDS = 0.5
TAIL_BYTES = 16_384
TAIL_LINES = 15
#: Settings that only the test reads, so that changing them needs no new training.
TEST_KEYS = (
    'test_dataloader',
    'test_evaluator',
    'test_cfg',
    'test_pipeline',
    'tta_model',
    'tta_pipeline',
)


class RunFailed(Exception):
    """A training or test that ended with an error; ``log`` is its log file."""

    def __init__(self, problem: str, log: Path) -> None:
        super().__init__(f'{problem}, see {log}')
        self.log = log

    def tail(self) -> str:
        """The end of the log."""
        return '\n'.join(_read_tail(self.log).splitlines()[-TAIL_LINES:])


class Stopped(Exception):
    """The grid was interrupted while this run was under way."""


@dataclass(frozen=True)
class Run:
    """What is trained, tested, and where.

    Attributes:
        name: of the config.
        config: the file that the programs get: the resolved config.
        work_dir: folder of this config and seed.
        training: fingerprint of everything that makes the trained model.
        whole: fingerprint of that and of the test.
        max_epochs: of the training, None where it counts iterations.
    """

    name: str
    seed: int
    config: Path
    work_dir: Path
    training: str
    whole: str
    max_epochs: int | None

    @classmethod
    def of(cls, cfg: Config, name: str, seed: int, folder: Path) -> 'Run':
        """The run of a resolved config that lies in ``folder``."""
        content = cfg.to_dict()
        content.pop('work_dir', None)
        trained = {k: v for k, v in content.items() if k not in TEST_KEYS}
        return cls(
            name=name,
            seed=seed,
            config=Path(cfg.filename),
            work_dir=folder / f'seed{seed}',
            training=fingerprint(trained, seed),
            whole=fingerprint(content, seed),
            max_epochs=(cfg.get('train_cfg') or {}).get('max_epochs'),
        )

    @property
    def title(self) -> str:
        """For people."""
        return f'{self.name} seed {self.seed}'


@dataclass(frozen=True)
class Training:
    """What is noted of a training; without a checkpoint it is not finished.

    Attributes:
        seconds: wall time of its processes, starting them included.
        starts: processes it took: more than one if it was interrupted.
    """

    fingerprint: str
    checkpoint: str | None = None
    seconds: float = 0.0
    starts: int = 0


@dataclass(frozen=True)
class Result:
    """A finished run."""

    fingerprint: str
    training: Training
    test_seconds: float
    metrics: Mapping[str, Any]


def finished(run: Run) -> Result | None:
    """What an earlier grid left, if it was this very run."""
    note = _read_note(run.work_dir / 'run.json')
    try:
        result = Result(**{**note, 'training': Training(**note['training'])})
    except (KeyError, TypeError):
        return None
    return result if result.fingerprint == run.whole else None


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
            RunFailed: a process ended with an error.
            Stopped: the grid was interrupted.
        """
        if self.stop.is_set():
            raise Stopped
        folder = self.run.work_dir
        folder.mkdir(parents=True, exist_ok=True)
        training = _noted_training(self.run)
        if force or training is None:
            # Whatever else lies here belongs to other settings.
            (folder / 'last_checkpoint').unlink(missing_ok=True)
            training = Training(self.run.training)
        if training.checkpoint is None:
            training = self._train(training)
        metrics, seconds = self._test(folder / str(training.checkpoint))
        result = Result(self.run.whole, training, seconds, metrics)
        _write_note(folder / 'run.json', result)
        return result

    def _train(self, training: Training) -> Training:
        folder = self.run.work_dir
        start = _last_checkpoint(folder, RESUME_KEYS)
        resume = [] if start is None else ['--resume', str(start)]
        if start is None:
            training = Training(self.run.training)
        note = folder / 'training.json'
        (folder / 'run.json').unlink(missing_ok=True)
        training = replace(training, starts=training.starts + 1)
        _write_note(note, training)
        began = time.perf_counter()
        try:
            self._call('train', [*resume, '--work-dir', str(folder)], 'train.log')
            last = _last_checkpoint(folder)
            if last is None:
                raise RunFailed('train left no checkpoint', folder / 'train.log')
            training = replace(training, checkpoint=last.name)
        finally:
            spent = training.seconds + time.perf_counter() - began
            training = replace(training, seconds=round(spent, 1))
            _write_note(note, training)
        return training

    def _test(self, checkpoint: Path) -> tuple[dict[str, Any], float]:
        folder = self.run.work_dir
        out = folder / 'metrics.json'
        arguments = [str(checkpoint), '--work-dir', str(folder / 'test')]
        began = time.perf_counter()
        self._call(
            'test', [*arguments, '--out', str(out), '--out-item', 'metrics'], 'test.log'
        )
        seconds = round(time.perf_counter() - began, 1)
        return json.loads(out.read_text(encoding='utf-8')), seconds

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
            position = position_in(_read_tail(log), self.run.max_epochs)
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


def _read_tail(log: Path) -> str:
    with log.open('rb') as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        return file.read().decode('utf-8', 'replace')


def _last_checkpoint(folder: Path, keys: tuple[str, ...] = ()) -> Path | None:
    """The last checkpoint of a work folder, which may have been moved, if usable."""
    note = folder / 'last_checkpoint'
    if not note.is_file():
        return None
    path = folder / Path(note.read_text(encoding='utf-8').strip()).name
    try:
        check_checkpoint(path, keys)
    except CheckpointError:
        return None
    return path


def _noted_training(run: Run) -> Training | None:
    """The training that was begun here, if it was that of this run."""
    note = _read_note(run.work_dir / 'training.json')
    try:
        training = Training(**note)
    except TypeError:
        return None
    if training.fingerprint != run.training:
        return None
    if training.checkpoint and not (run.work_dir / training.checkpoint).is_file():
        return None
    return training


def _read_note(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_note(path: Path, note: Any) -> None:
    mmengine.dump(asdict(note), str(path), indent=2)
