"""``python -m aib_mm compare CONFIG CHECKPOINT``."""

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command ``compare``."""
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
    parser.add_argument(
        '--traceback', action='store_true', help="show errors' whole traceback"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report and return the exit code."""
    from aib_mm.diagnosis import compare

    return compare.run(options)
