"""The rows that a table has on a data set, and the config of each run."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmengine.config import Config

from aib_mm.diagnosis.configs import load_config, merge_options, parse_options
from aib_mm.experiments.grid.rows import Row, read_rows
from aib_mm.experiments.maps.cross_domain import load_domains
from aib_mm.experiments.reproduce.data import SETS, root_options
from aib_mm.experiments.reproduce.tables import Part
from aib_mm.utils.configs import walk
from aib_mm.utils.shipped import shipped

#: Where models of CIFAR-10 are tested too, as docs/classification.md infers.
DOMAINS = 'configs/mmpretrain/_base_/domains/stl10_by_number.py'


@dataclass(frozen=True)
class Changes:
    """What the runs have other than the shipped configs.

    Attributes:
        data_root: folder of all data sets; None for ``data``.
        narrow: take narrow models, from random weights.
        epochs: number instead of the configs'.
        cfg_options: what ``--cfg-options`` takes.
    """

    data_root: str | None = None
    narrow: bool = False
    epochs: int | None = None
    cfg_options: Sequence[str] = ()

    @property
    def is_trial(self) -> bool:
        """Whether the runs are others than the paper's."""
        return self.narrow or self.epochs is not None or bool(self.cfg_options)


@dataclass(frozen=True)
class Panel:
    """A part of a table with its rows.

    Attributes:
        narrow: rows whose models stand in, by their names; empty for the full size.
        images: number of training images, which tells how long an epoch is.
    """

    part: Part
    rows: Sequence[Row]
    narrow: Mapping[str, Row]
    changes: Changes
    images: int = 0

    @classmethod
    def read(cls, part: Part, only: Sequence[str], changes: Changes) -> 'Panel | None':
        """The part with the rows that are wanted; None if it has none of them.

        Raises:
            UsageError: a grid file that cannot be read.
        """
        listed = read_rows([_path(f'configs/{part.grid}')], part.only)
        rows = [row for row in listed if not only or row.name in only]
        narrow: dict[str, Row] = {}
        if changes.narrow:
            stand_ins = read_rows([_path(f'configs/{part.narrow}')])
            narrow = {row.name: row for row in stand_ins}
            rows = [row for row in rows if row.name in narrow]
        return cls(part, rows, narrow, changes) if rows else None

    def name(self, row: Row) -> str:
        """Name of a row among those of all parts."""
        return f'{self.part.name}/{row.name}'

    def config(self, row: Row) -> Config:
        """The config of a run.

        Raises:
            UsageError: the config or an option cannot be used.
        """
        cfg = self._start(row)
        merge_options(cfg, parse_options(self.options(row)))
        if self.part.trained_on:
            domains = load_domains([_path(DOMAINS)])
            name = self.part.name
            changes = dict(test_dataloader=domains[name])
            merge_options(cfg, changes, f'domain {name!r}')
            roots = root_options(cfg, self.changes.data_root)
            merge_options(cfg, parse_options(roots))
        return cfg

    def options(self, row: Row) -> list[str]:
        """What is changed besides the row's own options and a narrow model."""
        cfg, changes = self._start(row), self.changes
        options = root_options(cfg, changes.data_root)
        options += self.part.narrow_options if self.narrow else ()
        merge_options(cfg, parse_options([*options, *changes.cfg_options]))
        if changes.epochs is not None:
            images = self.images or SETS[self.part.name].images[0] or 0
            options += _epoch_options(cfg, changes.epochs, images)
        return [*options, *changes.cfg_options]

    def checkpoint(self, row: Row) -> str:
        """Name of the last checkpoint of a training by epochs."""
        return f'epoch_{self.config(row).train_cfg.max_epochs}.pth'

    def _start(self, row: Row) -> Config:
        """The row's config, with the narrow model if that is wanted."""
        cfg = deepcopy(_loaded(row))
        if self.narrow:
            _take_model(cfg, deepcopy(_loaded(self.narrow[row.name])))
        return cfg


@cache
def _loaded(row: Row) -> Config:
    """The row's config, read once; not to be changed."""
    return row.load()


def _path(name: str) -> str:
    """A shipped file, by its path from here where it lies below this folder."""
    path = shipped(name).resolve()
    here = Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def svhn_images(data_root: str | None) -> Config:
    """The config whose test images Table 8 takes patches from."""
    cfg = load_config(_path('configs/mmpretrain/vgg16_svhn.py'), None)
    merge_options(cfg, parse_options(root_options(cfg, data_root)))
    return cfg


def _take_model(cfg: Config, narrow: Config) -> None:
    """Take a narrow model for the classes of a config, from random weights."""
    (classes,) = {
        node['num_classes']
        for _, node in walk(cfg.model.to_dict())
        if isinstance(node, dict) and 'num_classes' in node
    }
    cfg.model = narrow.model
    for _, node in walk(cfg.model):
        if isinstance(node, dict) and 'num_classes' in node:
            node['num_classes'] = classes
    cfg.load_from = None


def _epoch_options(cfg: Config, epochs: int, images: int) -> list[str]:
    """Options that train for so many epochs and keep the last checkpoint."""
    if 'max_iters' not in cfg.train_cfg:
        return [f'train_cfg.{key}={epochs}' for key in ('max_epochs', 'val_interval')]
    count = max(1, epochs * images // cfg.train_dataloader.batch_size)
    keys = ('train_cfg.max_iters', 'train_cfg.val_interval')
    return [f'{key}={count}' for key in (*keys, 'default_hooks.checkpoint.interval')]
