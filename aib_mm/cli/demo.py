"""``tools/demo.py``: make the data, train, test, compare, draw."""

import argparse

from aib_mm.cli.options import integer, program
from aib_mm.digitscenes.spec import DigitScenesSpec


def make_parser() -> argparse.ArgumentParser:
    """The options of the demo."""
    spec = DigitScenesSpec()
    parser = argparse.ArgumentParser(
        prog='demo.py',
        description='Make DigitScenes, train small classifiers with and without '
        'attention, compare them, and write a page that shows what they attend to.',
    )
    add = parser.add_argument
    add('--out', default='work_dirs/demo', help='folder of results (%(default)s)')
    add(
        '--data',
        help='folder of DigitScenes (data/digitscenes; for other sizes '
        'data/digitscenes-TRAIN-TEST)',
    )
    add(
        '--models',
        nargs='+',
        default=['vanilla', 'aib', 'aib_priced'],
        metavar='NAME',
        help='rows of demo_digitscenes.py and selectivity_digitscenes.py in '
        'configs/mmpretrain/grids (%(default)s)',
    )
    add(
        '--seeds',
        nargs='+',
        type=integer(0),
        default=[0],
        help='one training per model and seed; of several, mean and standard '
        'deviation are given (0)',
    )
    epochs = "epochs of a training from the start (the configs' own)"
    add('--epochs', type=integer(1), help=epochs)
    for part in ('train', 'test'):
        count = getattr(spec, part)
        add(f'--{part}', type=integer(1), default=count, help='images (%(default)s)')
    cases = 'right and wrong cases per model in the report (%(default)s each)'
    add('--cases', type=integer(0), default=8, help=cases)
    add(
        '--device',
        choices=['auto', 'cpu', 'cuda'],
        default='auto',
        help='where to train (a GPU if there is one)',
    )
    add('--force', action='store_true', help='train again what is already trained')
    return parser


main = program(make_parser, 'aib_mm.experiments.demo.main:run_demo')
