"""``tools/interpretability.py``: does attention stay on an edited image? (Table 8)"""

import argparse

from aib_mm.cli.map_options import SOURCES, add_map_options, add_model_options
from aib_mm.cli.options import integer, program

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
    _add_edit_options(parser.add_argument_group('edits'))
    _add_measure_options(parser.add_argument_group('measure'))
    return parser


def _add_edit_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        '--sizes',
        nargs='*',
        type=integer(1),
        default=[4, 8, 12, 16],
        metavar='P',
        help='sides of the occluded square in pixels (4 8 12 16)',
    )
    patches = 'also occlude with patches of the test images of this config'
    add('--patches-from', metavar='CONFIG', help=patches)
    fit = 'a piece of the other image, or all of it made smaller (%(default)s)'
    add('--patch-fit', choices=FITS, default=FITS[0], help=fit)
    for name, side, radius in (('high', 'above', 4), ('low', 'below', 12)):
        add(
            f'--{name}',
            nargs='*',
            type=float,
            default=[radius],
            metavar='R',
            help=f'keep the frequencies {side} R cycles per image ({radius})',
        )
    add('--clip', action='store_true', help='clip what is left of them to [0, 255]')
    add('--seed', type=integer(0), default=0, help='of the edits (0)')


def _add_measure_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        '--threshold',
        nargs='+',
        type=float,
        default=[0.9],
        metavar='T',
        help='cosine similarity from which attention is consistent; a table each (0.9)',
    )
    add(
        '--normalization',
        choices=NORMALIZATIONS,
        default=NORMALIZATIONS[0],
        help='of the maps, before the cosine (%(default)s)',
    )
    add(
        '--source',
        nargs='+',
        default=[],
        metavar='[NAME=]SOURCE',
        help=f'what the maps are: {SOURCES}; with NAME= of the config NAME.py alone '
        '(attention where the model has it, else gradcam)',
    )
    add_map_options(group, images=None)


main = program(make_parser, 'aib_mm.experiments.maps.interpretability:interpretability')
