"""What the training and the testing program share: options, config, Runner, errors."""

import argparse
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from aib_mm.checkpoint import CheckpointError
from aib_mm.checkpoint_fit import CheckpointFitHook
from aib_mm.cli.explained import RunError, explained
from aib_mm.cli.toolkits import UsageError
from aib_mm.config_check import unreadable
from aib_mm.config_errors import misspelt_setting
from aib_mm.distributed import prepare_cpu_distributed, shut_down
from aib_mm.errors import DataError, did_you_mean
from aib_mm.non_finite import NonFiniteLossError
from aib_mm.version import __version__

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_FIT_REMEDY = (
    'give the config that it was trained with; python -m aib_mm compare CONFIG '
    'CHECKPOINT lists the keys'
)


class CfgOptions(DictAction):
    """mmengine's ``--cfg-options`` with a usage message for what it cannot read."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes KEY=VALUE pairs, got {value!r}')
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # brackets that do not match
            parser.error(f'{option_string}: {error}')


def integer(minimum: int) -> Callable[[str], int]:
    """An argparse type: an integer of at least ``minimum``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f'must be at least {minimum}, got {value}')
        return value

    return integer


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both programs have in all three toolkits."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and metrics')
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision (needs a GPU)'
    )
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='switch pin_memory off in the data loaders',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='override settings of the config before the other options apply; lists '
        'as key="[a,b]" or key=a,b, nested ones as key="[(a,b),(c,d)]", without '
        'white space',
    )
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


def load_config(path: str, options: Mapping[str, Any] | None) -> Config:
    """Read a config and merge ``--cfg-options`` into it.

    Raises:
        UsageError: the file is missing or no config, or an option does not fit it.
    """
    if not Path(path).is_file():
        folder = Path(path).absolute().parent
        names = [one.name for one in folder.glob('*')]
        hint = did_you_mean(Path(path).name, names)
        raise UsageError(
            f'config {path} does not exist; give the path of a config file '
            f'(looked for at {Path(path).absolute()})' + (f'; {hint}' if hint else '')
        )
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # configs run code, so anything may come
        problem, remedy = unreadable(error)
        raise UsageError(
            f'config {path} cannot be read: {problem}; {remedy}'
        ) from error
    misspelt = misspelt_setting(cfg)
    if misspelt:
        raise UsageError(
            f'config {path} sets {misspelt[0]!r}, which nothing reads; did you mean '
            f'{misspelt[1]!r}?'
        )
    if options:
        try:
            cfg.merge_from_dict(options)
        except (KeyError, TypeError, IndexError) as error:
            raise UsageError(
                f'--cfg-options {dict(options)} does not fit config {path}: {error}'
            ) from error
    if options and any(key.startswith('custom_imports') for key in options):
        # fromfile imported what the file names, before the options changed it.
        import_modules_from_strings(**cfg.custom_imports)
    return cfg


def require(cfg: Config, keys: Sequence[str], purpose: str) -> None:
    """See that a config has what a program needs.

    Raises:
        UsageError: a key is missing, or None.
    """
    for key in keys:
        if cfg.get(key) is None:
            raise UsageError(f'config {cfg.filename} has no {key}: {purpose}')


def fingerprint(*identity: Any) -> str:
    """Changes whenever the values do, or the version of aib_mm or torch.

    Args:
        identity: settings as plain containers; anything else counts as its text.
    """
    text = json.dumps(
        [*identity, __version__, torch.__version__], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()


def apply_shared_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write work_dir, launcher and random seed into the config."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('./work_dirs', Path(args.config).stem)
    randomness = dict(cfg.get('randomness') or {})
    if args.seed is not None:
        randomness['seed'] = args.seed
    if args.deterministic:
        randomness['deterministic'] = True
    if randomness:
        cfg.randomness = randomness


def set_loader_options(
    cfg: Config,
    fields: Sequence[str],
    *,
    defaults: Mapping[str, Any],
    no_pin_memory: bool = False,
    no_persistent_workers: bool = False,
) -> None:
    """Fill in a toolkit's data loader defaults, then apply the ``--no-…`` flags."""
    defaults = dict(defaults)
    if 'pin_memory' in defaults:
        # Without a GPU torch ignores it, with a warning for every loader.
        defaults['pin_memory'] = torch.cuda.is_available()
    for field in fields:
        if cfg.get(field) is None:
            continue
        loader = {**defaults, **cfg[field]}
        if no_pin_memory:
            loader['pin_memory'] = False
        # torch refuses persistent workers where there are no workers at all.
        if no_persistent_workers or not loader.get('num_workers'):
            loader['persistent_workers'] = False
        cfg[field] = loader


def build_runner(cfg: Config, allow_missing: bool = False, advice: str = '') -> Runner:
    """Build the Runner that the config asks for, on gloo where there is no GPU.

    Args:
        cfg: its ``load_from`` is the checkpoint that the Runner will load.
        allow_missing: the checkpoint may lack weights of the model, but not all.
        advice: what else to do about a checkpoint that lacks some.

    Raises:
        UsageError: more processes than GPUs, or no launcher started this process.
        ConfigError: a part cannot be built.
    """
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    gpus = torch.cuda.device_count()
    if cfg.launcher == 'pytorch' and 0 < gpus < processes:
        raise UsageError(
            f'{processes} processes were started on a machine with {gpus} GPU(s); '
            f'start {gpus}, or set CUDA_VISIBLE_DEVICES=-1 to run on the CPU'
        )
    try:
        prepare_cpu_distributed(cfg, cfg.launcher)
    except RuntimeError as error:
        raise UsageError(str(error)) from error
    with explained(cfg):
        custom = 'runner_type' in cfg
        runner = RUNNERS.build(cfg) if custom else Runner.from_cfg(cfg)
    # A FlexibleRunner's model may be in shards, which no weight's shape fits.
    if cfg.get('load_from') and isinstance(runner, Runner):
        remedy = _FIT_REMEDY + advice
        fit = CheckpointFitHook(str(cfg.load_from), allow_missing, remedy)
        runner.register_hook(fit)
    return runner


def guarded(
    parser: argparse.ArgumentParser,
    program: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None,
) -> int:
    """Run a program and return its exit code, 0 if it gives none.

    Users' errors become one line on stderr and exit code 2. Others that can be traced
    to a place of the config end with such a line, after their traceback.
    """
    args = parser.parse_args(argv)
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
