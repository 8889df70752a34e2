"""What a grid runs: configs, and the rows of grid files, each a config with options.

A grid file is a config that holds ``rows`` instead of a model::

    _base_ = '_base_/cifar10.py'  # fill = dict(vgg='vgg16', data='cifar10', ...)
    rows = [
        dict(name='vgg', title='vanilla VGG', config='../{vgg}_{data}.py'),
        dict(
            name='scale',
            config='../{vgg}_aib_{data}.py',
            options=['model.neck.modulation=scale'],
        ),
        dict(name='tuned', config='../{vgg}_tuned_{data}.py', load_from='vgg'),
    ]

``options`` are what ``--cfg-options`` takes, so that a row is one command of
``tools/train.py`` too. ``load_from`` names a row above, whose last checkpoint of the
same seed its training begins with. ``fill`` says what stands for the names in braces:
the same rows then serve several data sets.
"""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmengine.config import Config

from aib_mm.diagnosis.configs import load_config, read_config
from aib_mm.errors import UsageError

_OPTIONAL = ('title', 'options', 'load_from', 'about')


@dataclass(frozen=True)
class Row:
    """One row of a grid's table.

    Attributes:
        name: name of its folder; unique in a grid.
        config: path of the config.
        title: title in the table.
        options: texts that ``--cfg-options`` takes.
        load_from: name of the row whose weights its trainings begin with, if any.
        about: what it is, for people.
        source: file that named it: a grid file, or the config itself.
    """

    name: str
    config: str
    title: str
    options: tuple[str, ...] = ()
    load_from: str = ''
    about: str = ''
    source: str = ''

    @property
    def is_listed(self) -> bool:
        """Whether a grid file names it."""
        return self.source != self.config

    def load(self, more: Sequence[str] = ()) -> Config:
        """The config with the row's options, then ``more``, merged into it.

        Raises:
            UsageError: the config or an option cannot be used.
        """
        return load_config(self.config, [*self.options, *more])

    def command(
        self, work_dir: str, seed: int, more: Sequence[str] = (), load_from: str = ''
    ) -> str:
        """Command that trains it by itself, for a shell."""
        words = ['python', 'tools/train.py', self.config, '--work-dir', work_dir]
        words += ['--seed', str(seed)]
        words += ['--load-from', load_from] if load_from else []
        options = [*self.options, *more]
        return shlex.join([*words, *(['--cfg-options', *options] if options else [])])


def read_rows(
    paths: Sequence[str],
    only: Sequence[str] = (),
    option: str = '--only',
    trained: bool = True,
) -> list[Row]:
    """The rows of grid files, and one for each other config, in their order.

    Args:
        paths: configs and grid files.
        only: names to keep, with ``*`` and ``?`` as in a shell; empty for all.
        option: what gave these names, for the message.
        trained: whether the rows are to be trained, in this order.

    Raises:
        UsageError: a file that cannot be read, rows that do not fit, or of one name; a
            pattern that no row matches; of rows to be trained, a ``load_from`` that
            names no kept row above.
    """
    rows = [row for path in paths for row in _rows_in(path)]
    for row in rows:
        same = [other.source for other in rows if other.name == row.name]
        if len(same) > 1:
            raise UsageError(
                f'{" and ".join(same)} would share the folder {row.name}: rename one, '
                f'or run them with different --out'
            )
    for pattern in only:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            raise UsageError(
                f'{option} {pattern}: no row has such a name; there are '
                f'{", ".join(row.name for row in rows)}'
            )
    patterns = only or ['*']
    kept = [row for row in rows if any(fnmatchcase(row.name, one) for one in patterns)]
    for i, row in enumerate(kept if trained else []):
        above = [other.name for other in kept[:i]]
        if row.load_from and row.load_from not in above:
            raise UsageError(
                f'grid {row.source}, row {row.name!r} begins with the weights of '
                f'{row.load_from!r}, which is no row above it among those that run '
                f'({", ".join(above) or "none"}); {option} has to name both'
            )
    return kept


def _rows_in(path: str) -> Iterator[Row]:
    cfg = read_config(path)
    if 'rows' not in cfg:
        name = Path(path).stem
        yield Row(name, path, name, source=path)
        return
    fill = dict(cfg.get('fill') or {})
    rows = cfg.rows
    if not isinstance(rows, list | tuple) or not rows:
        raise UsageError(
            f'grid {path}: rows must be a list of at least one row, got {rows!r}; a '
            "row is, for instance, dict(name='NAME', config='CONFIG.py')"
        )
    for entry in rows:
        if not isinstance(entry, dict):
            raise UsageError(
                f'grid {path}: a row must be a dict with name and config, got {entry!r}'
            )
        yield _row(dict(entry), fill, path)


def _row(entry: dict[str, Any], fill: Mapping[str, Any], path: str) -> Row:
    where = f'grid {path}, row {entry.get("name", entry)!r}'
    unknown = set(entry) - {'name', 'config', *_OPTIONAL}
    missing = {'name', 'config'} - set(entry)
    if unknown or missing:
        raise UsageError(
            f'{where} has {"unknown" if unknown else "no"} '
            f'{", ".join(sorted(unknown or missing))}; a row takes name, config and, '
            f'if wanted, {", ".join(_OPTIONAL)}'
        )
    try:
        config = entry['config'].format_map(fill)
        options = tuple(text.format_map(fill) for text in entry.get('options', ()))
    except KeyError as error:
        raise UsageError(
            f'{where} names {error}, which fill does not have; it has {list(fill)}'
        ) from error
    return Row(
        name=entry['name'],
        config=os.path.normpath(Path(path).parent / config),
        title=entry.get('title', entry['name']),
        options=options,
        load_from=entry.get('load_from', ''),
        about=entry.get('about', ''),
        source=path,
    )
