"""``tools/localization.py``: do maps lie on the object, does the prediction on them?"""

import argparse

from aib_mm.cli.map_options import SOURCES, add_map_options, add_model_options
from aib_mm.cli.options import integer, program

#: Those of the package's published tables, whose rows have these names.
DEFAULT_MAPS = 'attention GradCAM GradCAMPlusPlus occlusion center random'


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='localization.py',
        description='Whether maps lie on the object and whether the prediction stands '
        'on them: the own attention of classifiers beside Grad-CAM, occlusion and maps '
        'that see no image, on the same images, in one table.',
    )
    rows = 'rows of the table, one for each map'
    add_model_options(parser, rows, 'work_dirs/localization')
    maps = parser.add_argument_group('maps')
    maps.add_argument(
        '--maps',
        nargs='+',
        default=DEFAULT_MAPS.split(),
        metavar='[NAME=]MAP',
        help=f'in this order: {SOURCES}, occlusion, center, random; with NAME= of the '
        f'config NAME.py, which then has only those ({DEFAULT_MAPS})',
    )
    add_map_options(maps, images=200)
    maps.add_argument(
        '--window',
        type=integer(1),
        metavar='P',
        help='side of the occluding square in pixels; it moves by half of that (a '
        "quarter of the image's shorter side)",
    )
    _add_measure_options(parser.add_argument_group('measure'))
    return parser


def _add_measure_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        '--threshold',
        type=float,
        default=0.5,
        metavar='T',
        help="share of the map's range from which a position counts in the IoU (0.5)",
    )
    add(
        '--tolerance',
        type=integer(0),
        default=1,
        metavar='PIXELS',
        help='by which a maximum may miss in the pointing game (1)',
    )
    steps = 'of insertion and deletion (32)'
    add('--steps', type=integer(1), default=32, metavar='S', help=steps)
    add('--seed', type=integer(0), default=0, help='of images and random maps (0)')


main = program(make_parser, 'aib_mm.experiments.maps.localization:localization')
