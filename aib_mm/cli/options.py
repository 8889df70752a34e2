"""Options that several programs have, and how a program ends on a user's error.

Only argparse is imported here: what does the work is imported by a program when it
has read its arguments, so that ``--help`` answers at once.
"""

import argparse
import dataclasses
import pkgutil
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.error import URLError

from aib_mm.errors import DataError, UsageError

T = TypeVar('T')
CFG_OPTIONS_HELP = (
    'override settings of the config before the other options apply; lists as '
    'key="[a,b]" or key=a,b, nested ones as key="[(a,b),(c,d)]", without white space'
)


def integer(minimum: int) -> Callable[[str], int]:
    """An argparse type: an integer of at least ``minimum``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f'must be at least {minimum}, got {value}')
        return value

    return integer


def add_cfg_options(
    parser: argparse._ActionsContainer, meaning: str = CFG_OPTIONS_HELP
) -> None:
    """Add ``--cfg-options``: texts, which ``diagnosis.configs.load_config`` reads."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help=meaning,
    )


def add_title_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--title``: texts, which ``experiments.names.read_titles`` reads."""
    parser.add_argument(
        '--title',
        action='append',
        default=[],
        metavar='NAME=TITLE',
        help='what the table calls the config NAME.py (NAME); once for each',
    )


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing have in all three toolkits.

    Their values are those of ``RunSettings``, with the same names.
    """
    add = parser.add_argument
    add('--work-dir', help='folder for logs, checkpoints and metrics')
    add('--amp', action='store_true', help='automatic mixed precision (needs a GPU)')
    add(
        '--no-pin-memory',
        action='store_false',
        dest='pin_memory',
        help='switch pin_memory off in the data loaders',
    )
    add_cfg_options(parser)
    add('--seed', type=int, help='seed of all random numbers (default: the config)')
    add(
        '--deterministic',
        action='store_true',
        help='make cuDNN and torch use deterministic algorithms only',
    )
    add(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who started the processes; without a GPU they talk over gloo',
    )
    users = "show users' errors with the traceback"
    add('--traceback', action='store_true', help=users)
    # torch.distributed.launch passes --local-rank since torch 2.0, before --local_rank.
    rank = ('--local_rank', '--local-rank')
    add(*rank, type=int, default=0, help=argparse.SUPPRESS)


def filled(kind: type[T], args: argparse.Namespace) -> T:
    """A dataclass whose fields are options, with their values."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(args, name) for name in names})


def guarded(
    parser: argparse.ArgumentParser,
    program: str | Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None,
) -> int:
    """Run a program and return its exit code, 0 if it gives none.

    Users' errors become one line on stderr and exit code 2, an interruption (Ctrl-C)
    one line and exit code 130. Errors of loading samples end with a line that names the
    split, after their traceback.

    Args:
        parser: parser of the program's options.
        program: what gets the options, with the whole ``command`` as typed among them;
            or ``MODULE:FUNCTION``, which is imported once they are read.
        argv: words behind the program's name; None for those of the process.
    """
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    args.command = shlex.join(['python', f'tools/{parser.prog}', *argv])
    from aib_mm.diagnosis.explain import RunError
    from aib_mm.training.checkpoint import CheckpointError
    from aib_mm.training.distributed import shut_down
    from aib_mm.training.non_finite import NonFiniteLossError

    try:
        run = pkgutil.resolve_name(program) if isinstance(program, str) else program
        code = run(args)
    except (UsageError, CheckpointError, DataError) as error:
        if getattr(args, 'traceback', False):
            traceback.print_exception(error)
        code, said = 2, f'error: {_cause(error)}'
    except (RunError, NonFiniteLossError) as error:
        if isinstance(error, RunError):
            traceback.print_exception(error.__cause__)
        code, said = 1, f'error: {error}'
    except KeyboardInterrupt as error:
        code, said = 130, f'stopped {error}'.rstrip()
    except URLError as error:  # a host's dataset or weights
        hint = 'where there is no network, put the file where the config looks for it'
        code, said = 2, f'error: a download failed ({error}); {hint}'
    else:
        shut_down()
        return code or 0
    print(f'{parser.prog}: {said}', file=sys.stderr)
    return code


def program(
    make_parser: Callable[[], argparse.ArgumentParser],
    run: str | Callable[[argparse.Namespace], int | None],
) -> Callable[..., int]:
    """The ``main`` of a program: takes its words, by default those of the process.

    Args:
        make_parser: makes the parser of its options.
        run: the program, see ``guarded``.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        return guarded(make_parser(), run, argv)

    return main


def _cause(error: Exception) -> str:
    """The message; from a loader's worker process torch hands a whole traceback on."""
    return str(error).rpartition(f'{type(error).__name__}: ')[2].rstrip()
