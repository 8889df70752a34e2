"""What the tables of trained models are told: models, titles, images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aib_mm.errors import UsageError
from aib_mm.experiments.names import read_pairs


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What every table of trained models is told.

    Attributes:
        model: config and checkpoints of each model.
        title: what the table calls a config, as ``NAME=TITLE``.
        out: folder of tables and of what is measured.
        device: torch's device; None for a GPU if there is one.
        cfg_options: ``KEY=VALUE``, for all configs.
        force: measure again what is already measured.
        level: level of the attention, mean or index; None for what the config says.
        images: number of test images, drawn by the seed; None for all.
        seed: seed of everything that is drawn.
        batch: images a pass; figures depend on it by rounding only.
        command: command as typed.
    """

    model: Sequence[Sequence[str]]
    title: Sequence[str]
    out: str
    device: str | None
    cfg_options: Sequence[str]
    force: bool
    level: str | int | None
    images: int | None
    seed: int
    batch: int
    command: str

    def about(self) -> dict[str, Any]:
        """What the figures depend on, by name."""
        about = asdict(self)
        del about['force']
        return about

    @cached_property
    def titles(self) -> dict[str, str]:
        """What the table calls each config, by the config's name.

        Raises:
            UsageError: no checkpoint, two configs of one name, titles that do not fit.
        """
        titles: dict[str, str] = {}
        for config, *checkpoints in self.model:
            name = Path(config).stem
            if not checkpoints:
                raise UsageError(
                    f'--model {config} needs a checkpoint behind the config'
                )
            if name in titles:
                raise UsageError(
                    f'--model {config}: a second config called {name}; give all its '
                    'checkpoints to one --model'
                )
            titles[name] = name
        titles.update(read_pairs('--title', 'NAME=TITLE', self.title, titles))
        if len(set(titles.values())) < len(titles):
            raise UsageError(f'--title must tell the models apart, got {self.title}')
        return titles
