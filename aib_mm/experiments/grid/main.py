"""The program behind ``tools/grid.py``."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from aib_mm.errors import UsageError
from aib_mm.experiments.grid.engine import Engine, plan
from aib_mm.experiments.grid.guard import environments_of, locked, usable_gpus
from aib_mm.experiments.grid.results import GridResults
from aib_mm.experiments.grid.rows import Row, read_rows
from aib_mm.experiments.names import read_pairs
from aib_mm.experiments.progress import make_console
from aib_mm.training.toolkits import toolkit_of


@dataclass(frozen=True)
class GridOptions:
    """The options of ``tools/grid.py``, by their names.

    Attributes:
        title: entries ``NAME=TITLE``.
        command: words as typed.
    """

    configs: Sequence[str]
    only: Sequence[str]
    seeds: Sequence[int]
    out: str | None
    jobs: int
    metrics: Sequence[str]
    title: Sequence[str]
    cfg_options: Sequence[str]
    dry_run: bool
    force: bool
    command: str


def run_grid(options: GridOptions) -> int:
    """Run the grid as the options say; 0 only if every run is done.

    Raises:
        UsageError: a config or an option that cannot work; nothing was trained then.
    """
    rows = read_rows(options.configs, options.only)
    titles = _titles(options.title, rows)
    configs = {row.name: row.load(options.cfg_options) for row in rows}
    for cfg in configs.values():
        _check(cfg)
    folder = options.out or _default_folder(options.configs, rows)
    if options.dry_run:
        for seed, row in itertools.product(dict.fromkeys(options.seeds), rows):
            work_dir = os.path.join(folder, row.name, f'seed{seed}')
            print(row.command(work_dir, seed, options.cfg_options))
        return 0
    out = Path(folder).resolve()
    environments = environments_of(options.jobs, usable_gpus())
    with locked(out):
        results = GridResults(
            titles=titles,
            runs=plan(configs, options.seeds, out),
            command=options.command,
            jobs=options.jobs,
            threads=environments[0]['OMP_NUM_THREADS'],
            metrics=options.metrics,
        )
        return Engine(results, out, environments, make_console())(options.force)


def _default_folder(paths: Sequence[str], rows: Sequence[Row]) -> str:
    """Folder named by a grid file: those of several data sets name rows alike."""
    alone = len(paths) == 1 and rows[0].is_listed
    return f'work_dirs/{Path(paths[0]).stem if alone else "grid"}'


def _titles(options: Sequence[str], rows: Sequence[Row]) -> dict[str, str]:
    titles = {row.name: row.title for row in rows}
    return titles | read_pairs('--title', 'NAME=TITLE', options, titles)


def _check(cfg: Config) -> None:
    toolkit_of(cfg)
    for key in ('train_dataloader', 'train_cfg', 'test_dataloader', 'test_evaluator'):
        if not cfg.get(key):
            raise UsageError(
                f'config {cfg.filename} has no {key}: a grid trains and tests'
            )
