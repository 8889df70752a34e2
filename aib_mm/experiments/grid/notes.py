"""A run of a grid, and the notes in its work folder of what is done of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from aib_mm.errors import describe
from aib_mm.experiments.grid.progress import read_tail
from aib_mm.experiments.provenance import fingerprint
from aib_mm.utils.configs import walk
from aib_mm.utils.files import finite, json_text, write_atomically

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
    """A run that ended with an error; ``log`` is the log file, or the folder."""

    def __init__(self, problem: str, log: Path) -> None:
        super().__init__(f'{problem}, see {log}')
        self.log = log

    def tail(self) -> str:
        """The end of the log; nothing if there is none."""
        try:
            return '\n'.join(read_tail(self.log).splitlines()[-TAIL_LINES:])
        except OSError:
            return ''


@dataclass(frozen=True)
class Run:
    """What is trained, tested, and where.

    Attributes:
        name: name of the config.
        config: the file that the programs get: the resolved config.
        work_dir: folder of this config and seed.
        training: fingerprint of everything that makes the trained model.
        whole: fingerprint of that and of the test.
        max_epochs: epochs of the training, None where it counts iterations.
        batch_size: images of a training iteration, 0 where the config does not say.
        leaves: file in the work folder that the test writes besides its metrics.
        checkpoint: weights of another run, which are only tested; None to train.
        begin: run whose last checkpoint the training begins with, if any.
    """

    name: str
    seed: int
    config: Path
    work_dir: Path
    training: str
    whole: str
    max_epochs: int | None = None
    batch_size: int = 0
    leaves: str = ''
    checkpoint: Path | None = None
    begin: 'Run | None' = None

    @classmethod
    def of(
        cls,
        cfg: Config,
        name: str,
        seed: int,
        folder: Path,
        data: str = '',
        leaves: str = '',
        begin: 'Run | None' = None,
    ) -> 'Run':
        """The run of a resolved config that lies in ``folder``.

        Args:
            data: checksum of the data, which may then lie anywhere.
        """
        content = cfg.to_dict()
        content.pop('work_dir', None)
        for _, node in walk(content):
            if data and isinstance(node, dict) and 'data_root' in node:
                node['data_root'] = data
        trained = {k: v for k, v in content.items() if k not in TEST_KEYS}
        identity = [seed] if begin is None else [seed, begin.training]
        return cls(
            name=name,
            seed=seed,
            config=Path(cfg.filename),
            work_dir=folder / f'seed{seed}',
            training=fingerprint(trained, *identity),
            whole=fingerprint(content, *identity),
            max_epochs=(cfg.get('train_cfg') or {}).get('max_epochs'),
            batch_size=cfg.train_dataloader.get('batch_size') or 0,
            leaves=leaves,
            begin=begin,
        )

    @property
    def title(self) -> str:
        """Name for people."""
        return f'{self.name} seed {self.seed}'


@dataclass(frozen=True)
class Training:
    """What is noted of a training; without a checkpoint it is not finished.

    Attributes:
        seconds: wall time of its processes, starting them included.
        starts: processes it took: more than one if it was interrupted.
        speed: images a second of its iterations, None where unknown.
        memory: peak MiB of a GPU, None on a CPU.
    """

    fingerprint: str
    checkpoint: str | None = None
    seconds: float = 0.0
    starts: int = 0
    speed: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Result:
    """A finished run."""

    fingerprint: str
    training: Training
    test_seconds: float
    metrics: Mapping[str, Any]


def finished(run: Run) -> Result | None:
    """What an earlier grid left, if it was this very run."""
    try:
        note = finite(json.loads((run.work_dir / 'run.json').read_text()))
        result = Result(**{**note, 'training': Training(**note['training'])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = not run.leaves or (run.work_dir / run.leaves).is_file()
    return result if whole and result.fingerprint == run.whole else None


def noted_training(run: Run) -> Training | None:
    """The training that was begun here, if it was that of this run.

    Raises:
        RunFailed: what was begun here cannot be told: the note is damaged.
    """
    note = run.work_dir / 'training.json'
    try:
        training = Training(**json.loads(note.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        # To train anew would write over the checkpoints of a long training.
        raise RunFailed(
            f'{note} cannot be read ({describe(error)}), so that nobody knows whose '
            f'checkpoints lie there; put it back, or remove it or pass --force to '
            f'train anew',
            run.work_dir / 'train.log',
        ) from error
    if training.fingerprint != run.training:
        return None
    if training.checkpoint and not (run.work_dir / training.checkpoint).is_file():
        return None
    return training


def write_note(path: Path, note: Training | Result) -> None:
    """Write a note as JSON, in full or not at all."""
    write_atomically(path, json_text(asdict(note)))
