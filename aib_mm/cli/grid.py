"""``tools/grid.py``: train and test configs with several seeds, and collect a table."""

import argparse

from aib_mm.cli.options import add_cfg_options, add_title_option, integer, program


def make_parser() -> argparse.ArgumentParser:
    """The options of the grid."""
    parser = argparse.ArgumentParser(
        prog='grid.py',
        description='Train and test every config with every seed, in processes of '
        'their own, and collect one table. Started again it goes on where it was.',
    )
    add = parser.add_argument
    files = 'config files, and grid files, which name configs with options'
    add('configs', nargs='+', metavar='CONFIG', help=files)
    rows = 'rows of these names, with * and ? as in a shell (all)'
    add('--only', nargs='+', default=[], metavar='NAME', help=rows)
    add('--seeds', nargs='+', type=integer(0), default=[0], help='seeds (0)')
    add(
        '--out',
        help='folder of the runs and the table (work_dirs/NAME for a grid file NAME.py '
        'alone, else work_dirs/grid)',
    )
    jobs = 'runs side by side, each with its share of the cores (%(default)s)'
    add('--jobs', type=integer(1), default=1, help=jobs)
    add(
        '--metrics',
        nargs='+',
        default=[],
        metavar='KEY',
        help='columns of the table, such as accuracy/top1, coco/bbox_mAP or mIoU '
        '(all that the evaluators report)',
    )
    add(
        '--against',
        default='',
        metavar='NAME',
        help='config that a second table compares the others with: differences with '
        "Welch's 95%% intervals, and what these decide; needs two seeds or more",
    )
    add(
        '--margin',
        nargs='+',
        default=[],
        metavar='KEY=NUMBER',
        help="differences of a metric that do not matter, in its unit, for 'not lower'",
    )
    add_title_option(parser)
    add_cfg_options(parser, 'override settings of all configs, as in train.py')
    only_print = 'only print the command that trains each run by itself'
    add('--dry-run', action='store_true', help=only_print)
    add('--force', action='store_true', help='train again what is already trained')
    return parser


main = program(make_parser, 'aib_mm.experiments.grid.main:run_grid')
