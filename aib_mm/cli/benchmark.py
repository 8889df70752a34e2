"""``tools/benchmark.py``: what configs cost, as ratios to a first one in one run."""

import argparse
import os
from pathlib import Path

from aib_mm.cli.options import add_cfg_options, integer, program


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py',
        description='Parameters, multiply-accumulates, time, throughput and memory of '
        'a training step and of prediction, of every config beside the first. Random '
        'weights and random images: nothing is loaded.',
    )
    add = parser.add_argument
    files = 'config files, or grid files; ratios to the first'
    add('configs', nargs='+', metavar='CONFIG', help=files)
    add('--only', nargs='+', default=[], metavar='NAME', help='rows, as in grid.py')
    add('--size', nargs=2, type=integer(1), default=[512, 512], metavar=('H', 'W'))
    add('--batch', type=integer(1), default=2, help='images a step (2)')
    add('--rounds', type=integer(1), default=5, help='times each (5)')
    add(
        '--samples',
        nargs='+',
        type=integer(0),
        default=[0, 1, 4],
        metavar='L',
        help='L_a at test; 0 also takes the mean latent (0 1 4)',
    )
    add('--no-train', action='store_true', help='prediction only')
    add(
        '--layout',
        choices=['modes', 'models'],
        default='modes',
        help='a row for each mode and config; or a column for each config, as the '
        "paper's Table 3 (%(default)s)",
    )
    add(
        '--count-only',
        action='store_true',
        help='only count parameters and multiply-accumulates: with one sample, and '
        'with as many as each config tests with',
    )
    add('--device', choices=['cpu', 'cuda'], help='a GPU if there is')
    cores = len(os.sched_getaffinity(0))
    add('--threads', type=integer(1), default=cores, help='of the CPU (all cores)')
    add_cfg_options(parser, 'override settings of all configs, as in train.py')
    add(
        '--profile',
        type=integer(0),
        default=0,
        metavar='N',
        help='also print the N operators that take most of a pass, mode by mode, of '
        'the last config',
    )
    add(
        '--out',
        nargs='+',
        type=Path,
        default=[],
        metavar='FILE',
        help='also write the table (.md) or all numbers (.json) here',
    )
    return parser


main = program(make_parser, 'aib_mm.experiments.cost.run:benchmark')
