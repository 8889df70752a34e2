"""``tools/interpretability.py``: does attention stay on an edited image? (Table 8)"""

import argparse
from collections.abc import Sequence

from aib_mm.cli.map_options import (
    SOURCES,
    add_level_option,
    add_model_options,
    command_line,
)
from aib_mm.cli.options import guarded, integer

#: As in ``aib_mm.interpret.measure``, which help has no time to import.
FITS = ('crop', 'resize')
NORMALIZATIONS = ('minmax', 'standard', 'none')


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='interpretability.py',
        description='Share of the images whose attention stays where it is when the '
        'image is edited, among those whose prediction stays (paper, Table 8). Models '
        'without attention are measured by class activation maps.',
    )
    add_model_options(parser, 'a row of the table', 'work_dirs/interpretability')
    _add_edit_options(parser)
    _add_measure_options(parser)
    return parser


def _add_edit_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('edits')
    group.add_argument(
        '--sizes',
        nargs='*',
        type=integer(1),
        default=[4, 8, 12, 16],
        metavar='P',
        help='sides of the occluded square in pixels (4 8 12 16)',
    )
    group.add_argument(
        '--patches-from',
        metavar='CONFIG',
        help='also occlude with patches of the test images of this config',
    )
    group.add_argument(
        '--patch-fit',
        choices=FITS,
        default=FITS[0],
        help='a piece of the other image, or all of it made smaller (%(default)s)',
    )
    for name, side, radius in (('high', 'above', 4), ('low', 'below', 12)):
        group.add_argument(
            f'--{name}',
            nargs='*',
            type=float,
            default=[radius],
            metavar='R',
            help=f'keep the frequencies {side} R cycles per image ({radius})',
        )
    group.add_argument(
        '--clip', action='store_true', help='clip what is left of them to [0, 255]'
    )
    group.add_argument('--seed', type=integer(0), default=0, help='of the edits (0)')


def _add_measure_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('measure')
    group.add_argument(
        '--threshold',
        nargs='+',
        type=float,
        default=[0.9],
        metavar='T',
        help='cosine similarity from which attention is consistent; a table each (0.9)',
    )
    group.add_argument(
        '--normalization',
        choices=NORMALIZATIONS,
        default=NORMALIZATIONS[0],
        help='of the maps, before the cosine (%(default)s)',
    )
    add_level_option(group)
    group.add_argument(
        '--source',
        nargs='+',
        default=[],
        metavar='[NAME=]SOURCE',
        help=f'what the maps are: {SOURCES}; with NAME= of the config NAME.py alone '
        '(attention where the model has it, else gradcam)',
    )
    group.add_argument(
        '--images',
        type=integer(1),
        metavar='N',
        help='so many, drawn by the seed (all)',
    )
    group.add_argument('--batch', type=integer(1), default=100, help='images a pass')


def interpretability(args: argparse.Namespace) -> None:
    """Measure what is not measured yet, print and write the tables."""
    from aib_mm.experiments.maps import interpretability as table

    options = table.InterpretabilityOptions(**vars(args), command=command_line())
    table.interpretability(options)


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), interpretability, argv)
