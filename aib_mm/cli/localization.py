"""``tools/localization.py``: do maps lie on the object, does the prediction on them?"""

import argparse
from collections.abc import Sequence

from aib_mm.cli.map_options import (
    SOURCES,
    add_level_option,
    add_model_options,
    command_line,
)
from aib_mm.cli.options import guarded, integer

#: Those of the package's published tables, whose rows have these names.
DEFAULT_MAPS = (
    'attention',
    'GradCAM',
    'GradCAMPlusPlus',
    'occlusion',
    'center',
    'random',
)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='localization.py',
        description='Whether maps lie on the object and whether the prediction stands '
        'on them: the own attention of classifiers beside Grad-CAM, occlusion and maps '
        'that see no image, on the same images, in one table.',
    )
    add_model_options(
        parser, 'rows of the table, one for each map', 'work_dirs/localization'
    )
    _add_map_options(parser)
    _add_measure_options(parser)
    return parser


def _add_map_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('maps')
    group.add_argument(
        '--maps',
        nargs='+',
        default=DEFAULT_MAPS,
        metavar='[NAME=]MAP',
        help=f'in this order: {SOURCES}, occlusion, center, random; with NAME= of the '
        f'config NAME.py, which then has only those ({" ".join(DEFAULT_MAPS)})',
    )
    add_level_option(group)
    group.add_argument(
        '--window',
        type=integer(1),
        metavar='P',
        help='side of the occluding square in pixels; it moves by half of that (a '
        "quarter of the image's shorter side)",
    )


def _add_measure_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('measure')
    group.add_argument(
        '--threshold',
        type=float,
        default=0.5,
        metavar='T',
        help="share of the map's range from which a position counts in the IoU (0.5)",
    )
    group.add_argument(
        '--tolerance',
        type=integer(0),
        default=1,
        metavar='PIXELS',
        help='by which a maximum may miss in the pointing game (1)',
    )
    group.add_argument(
        '--steps',
        type=integer(1),
        default=32,
        metavar='S',
        help='of insertion and deletion (32)',
    )
    group.add_argument(
        '--images',
        type=integer(1),
        default=200,
        metavar='N',
        help='so many of the test set, drawn by the seed (200)',
    )
    group.add_argument(
        '--seed', type=integer(0), default=0, help='of images and random maps (0)'
    )
    group.add_argument('--batch', type=integer(1), default=100, help='images a pass')


def localization(args: argparse.Namespace) -> None:
    """Measure what is not measured yet, print and write the table."""
    from aib_mm.experiments.maps.localization import LocalizationOptions, localization

    localization(LocalizationOptions(**vars(args), command=command_line()))


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), localization, argv)
