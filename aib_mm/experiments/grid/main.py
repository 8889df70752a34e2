"""The program behind ``tools/grid.py``."""

import itertools
import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from aib_mm.errors import UsageError
from aib_mm.experiments.grid.against import read_margins
from aib_mm.experiments.grid.engine import Engine, plan
from aib_mm.experiments.grid.guard import environments_of, locked, usable_gpus
from aib_mm.experiments.grid.results import GridResults
from aib_mm.experiments.grid.rows import Row, read_rows
from aib_mm.experiments.names import read_titles
from aib_mm.experiments.progress import make_console
from aib_mm.training.toolkits import toolkit_of


def run_grid(options: Namespace) -> int:
    """Run the grid as the program's options say; 0 only if every run is done.

    Raises:
        UsageError: a config or an option that cannot work; nothing was trained then.
    """
    rows = read_rows(options.configs, options.only)
    titles = read_titles(options.title, {row.name: row.title for row in rows})
    if options.against not in ('', *titles):
        raise UsageError(
            f'--against takes one of {list(titles)}, got {options.against!r}'
        )
    margins = read_margins(options.margin)
    configs = {row.name: row.load(options.cfg_options) for row in rows}
    for cfg in configs.values():
        _check(cfg)
    folder = options.out or _default_folder(options.configs, rows)
    if options.dry_run:
        for seed, row in itertools.product(dict.fromkeys(options.seeds), rows):
            work_dir = os.path.join(folder, row.name, f'seed{seed}')
            begin = ''
            if row.load_from:
                last = _last_checkpoint(configs[row.load_from])
                begin = os.path.join(folder, row.load_from, f'seed{seed}', last)
            print(row.command(work_dir, seed, options.cfg_options, begin))
        return 0
    out = Path(folder).resolve()
    environments = environments_of(options.jobs, usable_gpus())
    with locked(out):
        results = GridResults(
            titles=titles,
            runs=plan(
                configs,
                options.seeds,
                out,
                load_from={row.name: row.load_from for row in rows},
            ),
            command=options.command,
            jobs=options.jobs,
            threads=environments[0]['OMP_NUM_THREADS'],
            metrics=options.metrics,
            against=options.against,
            margins=margins,
        )
        return Engine(results, out, environments, make_console())(options.force)


def _default_folder(paths: Sequence[str], rows: Sequence[Row]) -> str:
    """Folder named by a grid file: those of several data sets name rows alike."""
    alone = len(paths) == 1 and rows[0].is_listed
    return f'work_dirs/{Path(paths[0]).stem if alone else "grid"}'


def _last_checkpoint(cfg: Config) -> str:
    """Name that mmengine gives it."""
    epochs = cfg.train_cfg.get('max_epochs')
    return f'epoch_{epochs}.pth' if epochs else f'iter_{cfg.train_cfg.max_iters}.pth'


def _check(cfg: Config) -> None:
    toolkit_of(cfg)
    for key in ('train_dataloader', 'train_cfg', 'test_dataloader', 'test_evaluator'):
        if not cfg.get(key):
            raise UsageError(
                f'config {cfg.filename} has no {key}: a grid trains and tests'
            )
