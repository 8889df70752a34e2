"""Command line: ``python -m aib_mm COMMAND``."""

import argparse
import sys
from collections.abc import Sequence

from aib_mm.cli import add, compare, doctor
from aib_mm.version import __version__

#: Each adds its sub-parser, whose ``run`` takes the options and gives the exit code.
COMMANDS = (doctor, compare, add)


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    parser = argparse.ArgumentParser(
        prog='python -m aib_mm',
        description='Information-bottleneck spatial attention for OpenMMLab.',
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(argv)
    return options.run(options)


if __name__ == '__main__':
    sys.exit(main())
