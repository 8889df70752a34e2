"""``python -m aib_mm add CONFIG --out MY.py``."""

import argparse

from aib_mm.cli.options import integer


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command ``add``."""
    parser = commands.add_parser(
        'add',
        help="put the attention into a host's config",
        description='Writes a short config that inherits CONFIG and puts AIBAttention '
        'where it belongs; its model runs one training step and one prediction on made '
        'images first. The exit code is 2, with the reason, if that cannot be done.',
    )
    parser.add_argument(
        'config', help="a config, or 'mmdet::…', 'mmseg::…', 'mmpretrain::…'"
    )
    parser.add_argument(
        '--out', required=True, metavar='MY.py', help='the config to write'
    )
    parser.add_argument(
        '--modulation',
        choices=['scale', 'residual', 'bias', 'concat', 'replace'],
        help="how the map acts on the features (default: 'residual', the paper's; with "
        "--price 'replace')",
    )
    parser.add_argument(
        '--quantizer',
        type=integer(2),
        metavar='Q',
        help='round the scores to Q anchors: a qt model',
    )
    parser.add_argument(
        '--bottleneck',
        action='store_true',
        help="also put our head, with its latent, in the place of the host's",
    )
    parser.add_argument(
        '--price', type=_price, metavar='P', help='price of a nat that the map passes'
    )
    parser.add_argument(
        '--traceback', action='store_true', help="show errors' whole traceback"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the config and return the exit code."""
    from aib_mm.diagnosis import add

    return add.run(options)


def _price(text: str) -> float:
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be positive and finite, got {value}')
    return value
