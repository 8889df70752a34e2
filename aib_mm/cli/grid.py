"""``tools/grid.py``: train and test configs with several seeds, and collect a table."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial

from aib_mm.cli.options import add_cfg_options, guarded, integer


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
    add_cfg_options(parser, 'override settings of all configs, as in train.py')
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
    """Run the grid as the options say; 0 only if every run is done."""
    from aib_mm.experiments.grid.main import GridOptions, run_grid

    command = shlex.join(['python', 'tools/grid.py', *argv])
    return run_grid(GridOptions(**vars(args), command=command))


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    return guarded(make_parser(), partial(grid, argv=argv), argv)
