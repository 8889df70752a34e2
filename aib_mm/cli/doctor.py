"""``python -m aib_mm doctor [CONFIG]``."""

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command ``doctor``."""
    parser = commands.add_parser(
        'doctor',
        help='say whether the environment works, and whether a config runs a step',
        description='Prints versions, the state of every part, and remedies. '
        'With a config: whether its model builds, and runs one training step and one '
        'prediction on made images. The exit code is 0 only if nothing failed.',
    )
    parser.add_argument(
        'config', nargs='?', help="a config to try, or 'mmpretrain::FOLDER/FILE.py'"
    )
    parser.add_argument(
        '--traceback', action='store_true', help="show errors' whole traceback"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report and return the exit code."""
    from aib_mm.diagnosis import doctor

    return doctor.run(options)
