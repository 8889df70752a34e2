"""``tools/reproduce.py``: a table of the paper on its own data, beside the paper's."""

import argparse

from aib_mm.cli import interpretability
from aib_mm.cli.options import add_cfg_options, integer, program

#: As in ``aib_mm.experiments.reproduce.tables``, which help has no time to import.
TABLES = ('2', '5', '6', '7', '8', 'fig6')


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='reproduce.py',
        description="Train and test what a table of the paper has, on the paper's data "
        "sets, and print its figures beside the paper's. Says first which data and "
        'weights are needed and where they go, and checks them. Started again it goes '
        'on where it was.',
    )
    add = parser.add_argument
    add('table', choices=TABLES, help='number of the table, or fig6')
    add('--sets', nargs='+', default=[], metavar='SET', help='of these data sets alone')
    add('--only', nargs='+', default=[], metavar='ROW', help='these rows alone')
    add('--seeds', nargs='+', type=integer(0), default=[0], help='seeds (0)')
    add(
        '--out',
        help='folder of runs and tables (work_dirs/reproduce; with --narrow, --epochs, '
        '--any-data or --cfg-options work_dirs/reproduce-trial)',
    )
    add(
        '--jobs',
        type=integer(1),
        help='runs side by side, each on one of the GPUs (as many as there are GPUs, '
        'or 1)',
    )
    add('--data-root', help='folder of all data sets (data)')
    group = parser.add_argument_group('to try it small')
    add = group.add_argument
    add('--narrow', action='store_true', help='narrow models, from random weights')
    add('--epochs', type=integer(1), help="number instead of the configs'")
    add(
        '--any-data',
        action='store_true',
        help='take data whose images are not as many as published',
    )
    add_cfg_options(group, 'override settings of all runs, as in train.py')
    add = parser.add_argument
    add(
        '--dry-run',
        action='store_true',
        help='only check data and weights, and print the command of each run',
    )
    add('--force', action='store_true', help='train again what is already trained')
    # Table 8 is measured as that program does.
    parser.set_defaults(read_scores=interpretability.make_parser().parse_args)
    return parser


main = program(make_parser, 'aib_mm.experiments.reproduce.main:run_reproduce')
