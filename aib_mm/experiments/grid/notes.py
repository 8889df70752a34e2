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
    try:
        note = finite(read_json(run.work_dir / 'run.json'))
        result = Result(**{**note, 'training': Training(**note['training'])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return result if result.fingerprint == run.whole else None


def noted_training(run: Run) -> Training | None:
    """The training that was begun here, if it was that of this run.

    Raises:
        RunFailed: what was begun here cannot be told: the note is damaged.
    """
    note = run.work_dir / 'training.json'
    try:
        training = Training(**read_json(note))
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


def read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(content, dict):
        raise ValueError(f'it holds a {type(content).__name__}, not a dict')
    return content


def write_note(path: Path, note: Any) -> None:
    write_atomically(path, json_text(asdict(note)))
