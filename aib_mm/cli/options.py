"""Options that several programs have, and how a program ends on a user's error.

Only argparse is imported here: what does the work is imported by a program when it
has read its arguments, so that ``--help`` answers at once.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.error import URLError

from aib_mm.errors import DataError, UsageError

if TYPE_CHECKING:
    from aib_mm.training.runner import RunSettings

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


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing have in all three toolkits."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and metrics')
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision (needs a GPU)'
    )
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='switch pin_memory off in the data loaders',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--seed', type=int, help='seed of all random numbers (default: the config)'
    )
    parser.add_argument(
        '--deterministic',
        action='store_true',
        help='make cuDNN and torch use deterministic algorithms only',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who started the processes; without a GPU they talk over gloo',
    )
    parser.add_argument(
        '--traceback', action='store_true', help="show users' errors with the traceback"
    )
    # torch.distributed.launch passes --local-rank since torch 2.0, before --local_rank.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )


def run_settings(args: argparse.Namespace) -> 'RunSettings':
    """The values of ``add_shared_options``."""
    from aib_mm.training.runner import RunSettings

    return RunSettings(
        work_dir=args.work_dir,
        seed=args.seed,
        deterministic=args.deterministic,
        launcher=args.launcher,
        local_rank=args.local_rank,
        amp=args.amp,
        pin_memory=not args.no_pin_memory,
    )


def guarded(
    parser: argparse.ArgumentParser,
    program: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None,
) -> int:
    """Run a program and return its exit code, 0 if it gives none.

    Users' errors become one line on stderr and exit code 2, an interruption (Ctrl-C)
    one line and exit code 130. Errors of loading samples end with a line that names the
    split, after their traceback.
    """
    args = parser.parse_args(argv)
    from aib_mm.diagnosis.explain import RunError
    from aib_mm.training.checkpoint import CheckpointError
    from aib_mm.training.distributed import shut_down
    from aib_mm.training.non_finite import NonFiniteLossError

    try:
        code = program(args)
    except (UsageError, CheckpointError, DataError) as error:
        if getattr(args, 'traceback', False):
            traceback.print_exception(error)
        print(f'{parser.prog}: error: {_cause(error)}', file=sys.stderr)
        return 2
    except RunError as error:
        traceback.print_exception(error.__cause__)
        print(f'{parser.prog}: error: {error}', file=sys.stderr)
        return 1
    except NonFiniteLossError as error:
        print(f'{parser.prog}: error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f'{parser.prog}: stopped {error}'.rstrip(), file=sys.stderr)
        return 130
    except URLError as error:  # a host's dataset or weights
        print(
            f'{parser.prog}: error: a download failed ({error}); where there is no '
            f'network, put the file where the config looks for it',
            file=sys.stderr,
        )
        return 2
    shut_down()
    return code or 0


def _cause(error: Exception) -> str:
    """The message; from a loader's worker process torch hands a whole traceback on."""
    return str(error).rpartition(f'{type(error).__name__}: ')[2].rstrip()
