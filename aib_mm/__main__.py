"""Command line: ``python -m aib_mm COMMAND``."""

import argparse
import sys
from collections.abc import Sequence

from aib_mm.cli.commands import add_commands
from aib_mm.version import __version__


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    parser = argparse.ArgumentParser(
        prog='python -m aib_mm',
        description='Information-bottleneck spatial attention for OpenMMLab.',
    )
    parser.add_argument('--version', action='version', version=__version__)
    add_commands(parser.add_subparsers(metavar='COMMAND', required=True))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(argv)
    return options.run(options)


if __name__ == '__main__':
    sys.exit(main())
