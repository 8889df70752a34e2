"""The commands of ``python -m aib_mm``: doctor, compare and add."""

import argparse
import importlib
from functools import partial

from aib_mm.cli.options import integer


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add every sub-command; its ``run`` takes the options and gives the exit code."""
    for add in (_add_doctor, _add_compare, _add_add):
        add(commands)
    for name, parser in commands.choices.items():
        text = "show errors' whole traceback"
        parser.add_argument('--traceback', action='store_true', help=text)
        parser.set_defaults(run=partial(_run, name))


def _run(name: str, options: argparse.Namespace) -> int:
    return importlib.import_module(f'aib_mm.diagnosis.{name}').run(options)


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        'doctor',
        help='say whether the environment works, and whether a config runs a step',
        description='Prints versions, the state of every part, and remedies. '
        'With a config: whether its model builds, and runs one training step and one '
        'prediction on made images. The exit code is 0 only if nothing failed.',
    )
    tried = "a config to try, or 'mmpretrain::FOLDER/FILE.py'"
    parser.add_argument('config', nargs='?', help=tried)


def _add_compare(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        'compare',
        help='say which weights of a checkpoint fit the model of a config',
        description='Lists the keys that are new in the model (its classes declare '
        'them), missing, unexpected and of another shape. The exit code is 0 if only '
        'new keys and a predictor of other classes differ, else 1; 2 if a file cannot '
        'be used.',
    )
    parser.add_argument('config', help='a config with a model')
    parser.add_argument('checkpoint', help='a checkpoint file or address')


def _add_add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        'add',
        help="put the attention into a host's config",
        description='Writes a short config that inherits CONFIG and puts AIBAttention '
        'where it belongs; its model runs one training step and one prediction on made '
        'images first. The exit code is 2, with the reason, if that cannot be done.',
    )
    add = parser.add_argument
    add('config', help="a config, or 'mmdet::…', 'mmseg::…', 'mmpretrain::…'")
    add('--out', required=True, metavar='MY.py', help='the config to write')
    add(
        '--modulation',
        choices=['scale', 'residual', 'bias', 'concat', 'replace'],
        help="how the map acts on the features (default: 'residual', the paper's; with "
        "--price 'replace')",
    )
    anchors = 'round the scores to Q anchors: a qt model'
    add('--quantizer', type=integer(2), metavar='Q', help=anchors)
    add(
        '--bottleneck',
        action='store_true',
        help="also put our head, with its latent, in the place of the host's",
    )
    price = 'price of a nat that the map passes'
    add('--price', type=_price, metavar='P', help=price)


def _price(text: str) -> float:
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be positive and finite, got {value}')
    return value
