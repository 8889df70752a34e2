"""``tools/grid.py``: train and test configs with several seeds, and collect a table."""

import argparse
import itertools
import os
import shlex
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.progress import Progress

from aib_mm.cli.common import guarded, integer
from aib_mm.diagnosis.configs import load_config
from aib_mm.errors import UsageError, describe
from aib_mm.experiments.grid.guard import environment_of, interruptible, locked
from aib_mm.experiments.grid.notes import Result, Run, RunFailed, finished
from aib_mm.experiments.grid.progress import ShownRun, make_progress, say
from aib_mm.experiments.grid.results import GridResults
from aib_mm.experiments.grid.rows import Row, read_rows
from aib_mm.experiments.grid.run import Execution, Stopped
from aib_mm.training.toolkits import toolkit_of
from aib_mm.utils.files import json_text, write_atomically
from aib_mm.utils.tables import markdown, terminal_table

PLAIN_WIDTH = 240  # of a table of many metrics where the output is no terminal
INTERRUPTED = 130  # exit code, as of a shell


def make_parser() -> argparse.ArgumentParser:
    """The options of the grid."""
    parser = argparse.ArgumentParser(
        prog='grid.py',
        description='Train and test every config with every seed, in processes of '
        'their own, and collect one table. Started again it goes on where it was.',
    )
    parser.add_argument(
        'configs',
        nargs='+',
        metavar='CONFIG',
        help='config files, and grid files, which name configs with options',
    )
    parser.add_argument(
        '--only',
        nargs='+',
        default=[],
        metavar='NAME',
        help='rows of these names, with * and ? as in a shell (all)',
    )
    parser.add_argument(
        '--seeds', nargs='+', type=integer(0), default=[0], help='seeds (0)'
    )
    parser.add_argument(
        '--out',
        help='folder of the runs and the table (work_dirs/NAME for a grid file NAME.py '
        'alone, else work_dirs/grid)',
    )
    parser.add_argument(
        '--jobs',
        type=integer(1),
        default=1,
        help='runs side by side, each with its share of the cores (%(default)s)',
    )
    parser.add_argument(
        '--metrics',
        nargs='+',
        default=[],
        metavar='KEY',
        help='columns of the table, such as accuracy/top1, coco/bbox_mAP or mIoU '
        '(all that the evaluators report)',
    )
    parser.add_argument(
        '--title',
        action='append',
        default=[],
        metavar='NAME=TITLE',
        help='what the table calls the config NAME.py (NAME); once for each',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of all configs, as in train.py',
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='only print the command that trains each run by itself',
    )
    parser.add_argument(
        '--force', action='store_true', help='train again what is already trained'
    )
    return parser


def grid(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run the grid as the options say; 0 only if every run is done.

    Raises:
        UsageError: a config or an option that cannot work; nothing was trained then.
    """
    rows = read_rows(args.configs, args.only)
    names = [row.name for row in rows]
    titles = _titles(args.title, rows)
    configs = [row.load(args.cfg_options) for row in rows]
    for cfg in configs:
        _check(cfg)
    seeds = list(dict.fromkeys(args.seeds))
    folder = args.out or _default_folder(args.configs, rows)
    if args.dry_run:
        for seed, row in itertools.product(seeds, rows):
            work_dir = os.path.join(folder, row.name, f'seed{seed}')
            print(row.command(work_dir, seed, args.cfg_options))
        return 0
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    out = Path(folder).resolve()
    environment = environment_of(args.jobs)
    with locked(out):
        resolved = [
            _write_config(cfg, out / name)
            for cfg, name in zip(configs, names, strict=True)
        ]
        results = GridResults(
            titles=titles,
            runs=[
                Run.of(cfg, name, seed, out / name)
                for seed in seeds
                for cfg, name in zip(resolved, names, strict=True)
            ],
            metrics=args.metrics,
            command=shlex.join(['python', 'tools/grid.py', *argv]),
            jobs=args.jobs,
            threads=environment['OMP_NUM_THREADS'],
        )
        interrupted = _run_all(results, out, environment, args.force, console)
        written = _show(results, out, console)
    if interrupted:
        console.print('interrupted; the same command goes on', highlight=False)
        return INTERRUPTED
    return int(bool(results.failures) or not written)


def _default_folder(paths: Sequence[str], rows: Sequence[Row]) -> str:
    """Grid files of several data sets name their rows alike."""
    alone = len(paths) == 1 and rows[0].is_listed
    return f'work_dirs/{Path(paths[0]).stem if alone else "grid"}'


def _titles(options: Sequence[str], rows: Sequence[Row]) -> dict[str, str]:
    titles = {row.name: row.title for row in rows}
    for option in options:
        name, sign, title = option.partition('=')
        if not sign or name not in titles:
            raise UsageError(
                f'--title takes NAME=TITLE with NAME one of {list(titles)}, got '
                f'{option!r}'
            )
        titles[name] = title
    return titles


def _check(cfg: Config) -> None:
    toolkit_of(cfg)
    for key in ('train_dataloader', 'train_cfg', 'test_dataloader', 'test_evaluator'):
        if not cfg.get(key):
            raise UsageError(
                f'config {cfg.filename} has no {key}: a grid trains and tests'
            )


def _write_config(cfg: Config, folder: Path) -> Config:
    """The resolved config, written to its folder and read back.

    The runs get this file, so that editing a config while the grid runs changes none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{folder.name}.py'
    cfg.dump(str(path))
    return load_config(str(path), None)


def _run_all(
    results: GridResults,
    out: Path,
    environment: Mapping[str, str],
    force: bool,
    console: Console,
) -> bool:
    """Fill in the results; true if a signal stopped it."""
    stop = threading.Event()
    pool = ThreadPoolExecutor(results.jobs)
    with interruptible(), make_progress(console) as progress:
        futures = {}
        try:
            for run in results.runs:
                done = None if force else finished(run)
                if done is not None:
                    results.results[run] = done
                    say(console, f'{run.title}: already done in {run.work_dir}')
                    continue
                job = partial(_run_one, run, environment, stop, force, progress)
                futures[pool.submit(job)] = run
            for future in as_completed(futures):
                run = futures[future]
                try:
                    results.results[run] = future.result()
                    say(console, f'{run.title}: done')
                except RunFailed as error:
                    results.failures[run] = str(error)
                    say(console, f'{run.title}: FAILED, {error}\n{error.tail()}')
                _write(results, out, console)
        except KeyboardInterrupt:
            return True
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return False


def _run_one(
    run: Run,
    environment: Mapping[str, str],
    stop: threading.Event,
    force: bool,
    progress: Progress,
) -> Result | None:
    shown = ShownRun(run.title, progress)
    try:
        return Execution(run, environment, stop, shown)(force)
    except Stopped:
        return None
    except (OSError, ValueError) as error:  # a full disk, a file that is damaged
        raise RunFailed(describe(error), run.work_dir) from error
    finally:
        shown.close()


def _write(results: GridResults, out: Path, console: Console) -> bool:
    """Write table and JSON; false if they cannot be, which stops no run."""
    table = markdown(results.table(), results.notes())
    try:
        write_atomically(out / 'results.json', json_text(results.as_json()))
        write_atomically(out / 'table.md', table)
    except OSError as error:
        say(console, f'table.md and results.json are not up to date: {describe(error)}')
        return False
    return True


def _show(results: GridResults, out: Path, console: Console) -> bool:
    """Print and write the table; false if it cannot be written."""
    console.print(terminal_table(results.table()))
    for note in results.notes():
        say(console, note)
    if not _write(results, out, console):
        return False
    for name in ('table.md', 'results.json'):
        say(console, f'wrote {out / name}')
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    return guarded(make_parser(), partial(grid, argv=argv), argv)
