"""Options that the tables of trained models have in common."""

import argparse
import shlex
import sys

from aib_mm.cli.options import add_cfg_options, integer

#: What ``aib_mm.interpret.record.source`` reads, for help.
SOURCES = (
    'attention, features:MODULE, gate:MODULE, gradcam or gradcam:MODULE, likewise '
    'gradcamplusplus, hirescam, layercam, xgradcam and eigencam'
)


def command_line() -> str:
    """The command as typed."""
    return shlex.join(['python', *sys.argv])


def add_model_options(parser: argparse.ArgumentParser, rows: str, out: str) -> None:
    """Add what every table of trained models takes.

    Args:
        parser: gets the options.
        rows: what a model is in the table, for the help.
        out: the folder, unless another one is given.
    """
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        required=True,
        metavar='FILE',
        help=f'CONFIG CHECKPOINT [CHECKPOINT …]: {rows}; with several checkpoints mean '
        'and spread. Once for each model',
    )
    parser.add_argument(
        '--title',
        action='append',
        default=[],
        metavar='NAME=TITLE',
        help='what the table calls the config NAME.py (NAME); once for each',
    )
    parser.add_argument(
        '--out',
        default=out,
        help='folder of tables and of what is measured (%(default)s)',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='a GPU if there is')
    add_cfg_options(
        parser, 'override settings of the configs of all models, as in test.py'
    )
    parser.add_argument(
        '--force', action='store_true', help='measure again what is already measured'
    )


def add_level_option(group: argparse._ArgumentGroup) -> None:
    """Add the option of which level of several is a model's map."""
    group.add_argument(
        '--level',
        type=_level,
        metavar='LEVEL',
        help='mean, or index of a level of attention (what AttentionFieldsHook of the '
        'config says, else mean)',
    )


def _level(text: str) -> str | int:
    """An argparse type: ``mean``, or an index."""
    return text if text == 'mean' else integer(0)(text)
