"""Options that the tables of trained models have in common."""

import argparse

from aib_mm.cli.options import add_cfg_options, add_title_option, integer

#: What ``aib_mm.interpret.record.source`` reads, for help.
SOURCES = (
    'attention, bits, features:MODULE, gate:MODULE, gradcam or gradcam:MODULE, '
    'likewise gradcamplusplus, hirescam, layercam, xgradcam and eigencam'
)


def add_model_options(parser: argparse.ArgumentParser, rows: str, out: str) -> None:
    """Add what every table of trained models takes.

    Args:
        parser: gets the options.
        rows: what a model is in the table, for the help.
        out: the folder, unless another one is given.
    """
    add = parser.add_argument
    add(
        '--model',
        nargs='+',
        action='append',
        required=True,
        metavar='FILE',
        help=f'CONFIG CHECKPOINT [CHECKPOINT …]: {rows}; with several checkpoints mean '
        'and spread. Once for each model',
    )
    add_title_option(parser)
    folder = 'folder of tables and of what is measured (%(default)s)'
    add('--out', default=out, help=folder)
    add('--device', choices=['cpu', 'cuda'], help='a GPU if there is')
    all_configs = 'override settings of the configs of all models, as in test.py'
    add_cfg_options(parser, all_configs)
    add('--force', action='store_true', help='measure again what is already measured')


def add_map_options(group: argparse._ArgumentGroup, images: int | None) -> None:
    """Add which level of several is a model's map, and of how many images.

    Args:
        group: gets the options.
        images: number of images, unless another one is given; None for all.
    """
    add = group.add_argument
    add(
        '--level',
        type=_level,
        metavar='LEVEL',
        help='mean, or index of a level of attention (what AttentionFieldsHook of the '
        'config says, else mean)',
    )
    drawn = f'so many of the test set, drawn by the seed ({images or "all"})'
    add('--images', type=integer(1), default=images, metavar='N', help=drawn)
    add('--batch', type=integer(1), default=100, help='images a pass')


def _level(text: str) -> str | int:
    """An argparse type: ``mean``, or an index."""
    return text if text == 'mean' else integer(0)(text)
