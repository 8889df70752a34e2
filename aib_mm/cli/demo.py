"""``tools/demo.py``: make the data, train, test, compare, draw."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial

from aib_mm.cli.options import guarded, integer
from aib_mm.digitscenes.spec import DigitScenesSpec


def make_parser() -> argparse.ArgumentParser:
    """The options of the demo."""
    spec = DigitScenesSpec()
    parser = argparse.ArgumentParser(
        prog='demo.py',
        description='Make DigitScenes, train small classifiers with and without '
        'attention, compare them, and write a page that shows what they attend to.',
    )
    parser.add_argument(
        '--out', default='work_dirs/demo', help='folder of results (%(default)s)'
    )
    parser.add_argument(
        '--data',
        help='folder of DigitScenes (data/digitscenes; for other sizes '
        'data/digitscenes-TRAIN-TEST)',
    )
    parser.add_argument(
        '--models',
        nargs='+',
        default=['vanilla', 'aib', 'aib_qt'],
        metavar='NAME',
        help='rows of demo_digitscenes.py and selectivity_digitscenes.py in '
        'configs/mmpretrain/grids (%(default)s)',
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=integer(0),
        default=[0],
        help='one training per model and seed; of several, mean and standard '
        'deviation are given (0)',
    )
    parser.add_argument(
        '--epochs', type=integer(1), help="epochs of training (the configs' own)"
    )
    parser.add_argument(
        '--train', type=integer(1), default=spec.train, help='images (%(default)s)'
    )
    parser.add_argument(
        '--test', type=integer(1), default=spec.test, help='images (%(default)s)'
    )
    parser.add_argument(
        '--cases',
        type=integer(0),
        default=8,
        help='right and wrong cases per model in the report (%(default)s each)',
    )
    parser.add_argument(
        '--device',
        choices=['auto', 'cpu', 'cuda'],
        default='auto',
        help='where to train (a GPU if there is one)',
    )
    parser.add_argument(
        '--force', action='store_true', help='train again what is already trained'
    )
    return parser


def demo(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run the demo as the options say; 0 only if every run is done."""
    from aib_mm.experiments.demo.main import DemoOptions, run_demo

    command = shlex.join(['python', 'tools/demo.py', *argv])
    return run_demo(DemoOptions(**vars(args), command=command))


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    return guarded(make_parser(), partial(demo, argv=argv), argv)
