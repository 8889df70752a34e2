"""``tools/benchmark.py``: what configs cost beside a first one, as ratios in one run.

Every config has a process of its own, which waits while another works: a round times
each of them once, one after the other, so that a machine's bad moment meets them all.
"""

import argparse
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope
from rich.console import Console
from torch import multiprocessing as mp
from torch import nn

from aib_mm.attention import AIBAttention
from aib_mm.cli.common import CfgOptions, guarded, load_config
from aib_mm.cli.grid_results import cpu_name
from aib_mm.cli.toolkits import UsageError, toolkit_of
from aib_mm.hosts import HOST_PARTS
from aib_mm.tables import ABSENT, Column, Table, markdown, terminal_table

TRAIN = 'training step'
MEMORY = 'memory'
STATUS = Path('/proc/self/status')


@dataclass(frozen=True)
class Job:
    """One config as its process gets it."""

    config: str
    options: dict[str, Any]
    size: tuple[int, int]
    batch: int
    device: str
    threads: int


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py',
        description='Time and memory of a training step and of prediction, of every '
        'config beside the first. Random weights and random images: nothing is loaded.',
    )
    parser.add_argument(
        'configs', nargs='+', metavar='CONFIG', help='config files; ratios to the first'
    )
    parser.add_argument(
        '--size', nargs=2, type=int, default=[512, 512], metavar=('H', 'W')
    )
    parser.add_argument('--batch', type=int, default=2, help='images a step (2)')
    parser.add_argument('--rounds', type=int, default=5, help='times each (5)')
    parser.add_argument(
        '--samples',
        nargs='+',
        type=int,
        default=[0, 1, 4],
        metavar='L',
        help='L_a at test; 0 also takes the mean latent (0 1 4)',
    )
    parser.add_argument('--no-train', action='store_true', help='prediction only')
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='a GPU if there is')
    parser.add_argument(
        '--threads', type=int, default=os.cpu_count(), help='of the CPU (all cores)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='override settings of all configs, as in train.py',
    )
    parser.add_argument(
        '--profile',
        type=int,
        default=0,
        metavar='N',
        help='also print the N operators that take most of a pass, mode by mode, of '
        'the last config',
    )
    parser.add_argument('--out', help='also write the table here, as Markdown')
    return parser


def benchmark(args: argparse.Namespace) -> None:
    """Measure as the options say and print the table."""
    for name in ('batch', 'rounds', 'threads'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name} must be at least 1, got {getattr(args, name)}')
    if min(args.size) < 1:
        raise UsageError(f'--size must be at least 1 1, got {args.size}')
    if min(args.samples) < 0:
        raise UsageError(f'--samples must not be negative, got {args.samples}')
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    jobs = [
        Job(
            config,
            dict(args.cfg_options or {}),
            tuple(args.size),
            args.batch,
            device,
            args.threads,
        )
        for config in args.configs
    ]
    for job in jobs:
        toolkit_of(load_config(job.config, job.options))
    # The test goes first: what training has allocated would count as its memory.
    modes = [f'test, L_a = {count}' for count in args.samples]
    modes += [] if args.no_train else [TRAIN]
    with _Workers(jobs) as workers:
        measured = {mode: workers.measure(mode, args.rounds) for mode in modes}
        profiles = {
            mode: workers.profile(mode, args.profile) for mode in modes if args.profile
        }
    table = _table([Path(job.config).stem for job in jobs], measured)
    Console().print(terminal_table(table))
    notes = _notes(args, device)
    print('\n'.join(notes))
    for mode, profile in profiles.items():
        print(f'\n{Path(jobs[-1].config).stem}, {mode}:\n{profile}')
    if args.out:
        Path(args.out).write_text(markdown(table, notes), encoding='utf-8')


@dataclass(frozen=True)
class Cost:
    """Of one config and mode: seconds of every round, and peak memory in MiB."""

    seconds: list[float]
    memory: float


class _Workers:
    """A process per config, of which one works at a time."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        context = mp.get_context('spawn')
        self.pipes: list[Connection] = []
        self.processes = []
        for job in jobs:
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=_work, args=(job, theirs)))
            self.pipes.append(ours)

    def __enter__(self) -> '_Workers':
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join()

    def measure(self, mode: str, rounds: int) -> list[Cost]:
        """The cost of each config."""
        seconds: list[list[float]] = [[] for _ in self.pipes]
        for number in range(rounds + 1):
            for pipe, found in zip(self.pipes, seconds, strict=True):
                elapsed = self._ask(pipe, mode)
                if number > 0:  # the first one warms up
                    found.append(elapsed)
        memory = [self._ask(pipe, MEMORY) for pipe in self.pipes]
        return [Cost(found, peak) for found, peak in zip(seconds, memory, strict=True)]

    def profile(self, mode: str, rows: int) -> str:
        """The operators of one pass of the last config, the longest first."""
        return self._ask(self.pipes[-1], mode, rows)

    def _ask(self, pipe: Connection, mode: str, profile_rows: int = 0) -> Any:
        pipe.send((mode, profile_rows))
        try:
            return pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise UsageError(
                'a process ended while it was measured; its error is above'
            ) from error


def _work(job: Job, pipe: Connection) -> None:
    """Answer requests until the pipe is closed."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    # Every initialised parameter would be a line.
    MMLogger.get_current_instance().setLevel('ERROR')
    meter = _MemoryMeter(job.device)
    cfg = load_config(job.config, job.options)
    model = _build(cfg).to(job.device)
    part = importlib.import_module(f'{HOST_PARTS[cfg.default_scope]}.random_batch')
    # An RPN has one class, a backbone without a classifier None.
    classes = max(getattr(m, 'num_classes', None) or 1 for m in model.modules())
    data = part.random_batch(job.batch, job.size, classes)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == 'AIBLossHook':  # without it a foreign head cannot train
            HOOKS.build(hook).before_train(SimpleNamespace(model=model))
    while True:
        try:
            mode, profile_rows = pipe.recv()
        except EOFError:
            return
        if mode == MEMORY:
            pipe.send(meter.take())
            continue
        step = _prepare(mode, model, data, wrapper)
        if profile_rows:
            pipe.send(_profiled(step, profile_rows))
        else:
            pipe.send(_timed(step, job.device))


def _prepare(
    mode: str, model: nn.Module, data: dict[str, list], wrapper: OptimWrapper
) -> Callable[[], Any]:
    """Set the model to a mode and give what is measured."""
    model.train(mode == TRAIN)
    if mode == TRAIN:
        return partial(model.train_step, data, wrapper)
    _set_samples(model, int(mode.rpartition(' ')[2]))
    return torch.no_grad()(partial(model.test_step, data))


def _build(cfg: Config) -> nn.Module:
    if 'init_cfg' in cfg.model.backbone:
        cfg.model.backbone.init_cfg = None  # nothing is downloaded
    cfg.model.pop('pretrained', None)
    # As the Runner does.
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor', {}))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def _set_samples(model: nn.Module, count: int) -> None:
    """L_a of the attention, and no latent sample where it is 0."""
    for module in model.modules():
        if isinstance(module, AIBAttention):
            module.test_samples = count
        elif hasattr(module, 'test_samples'):
            module.test_samples = min(count, 1)


def _profiled(step: Callable[[], Any], rows: int) -> str:
    with torch.profiler.profile() as found:
        step()
    return found.key_averages().table(
        sort_by='self_cpu_time_total', row_limit=rows, max_name_column_width=40
    )


def _timed(step: Callable[[], Any], device: str) -> float:
    """Seconds of a call: of the CPU's time there, by the clock on a GPU.

    CPU time is blind to what else the machine does meanwhile.
    """
    clock = time.process_time if device == 'cpu' else time.perf_counter
    if device == 'cuda':
        torch.cuda.synchronize()
    start = clock()
    step()
    if device == 'cuda':
        torch.cuda.synchronize()
    return clock() - start


class _MemoryMeter:
    """Peak memory of a GPU, or of the process above what it had before the model."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.start = 0.0 if device == 'cuda' else _status('VmRSS')

    def take(self) -> float:
        """MiB since the last call; the peak of a process only Linux tells."""
        if self.device == 'cuda':
            peak = torch.cuda.max_memory_allocated() / 2**20
            torch.cuda.reset_peak_memory_stats()
            return peak
        peak = _status('VmHWM') - self.start
        Path('/proc/self/clear_refs').write_text('5')  # sets the peak back
        return peak


def _status(key: str) -> float:
    """A field of Linux' process status, in MiB."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(f'{STATUS} has no {key}')


def _table(names: Sequence[str], measured: dict[str, list[Cost]]) -> Table:
    heads = ('config', 'mode', 'ms', 'ratio', 'spread', 'MiB', 'MiB ratio')
    rows = [
        [name, mode, *_cells(cost, costs[0])]
        for mode, costs in measured.items()
        for name, cost in zip(names, costs, strict=True)
    ]
    return Table([Column(head) for head in heads], rows)


def _cells(cost: Cost, base: Cost) -> list[str]:
    ratios = [a / b for a, b in zip(cost.seconds, base.seconds, strict=True)]
    spread = f'{min(ratios):.2f}–{max(ratios):.2f}' if cost is not base else ABSENT
    return [
        f'{1000 * statistics.median(cost.seconds):.1f}',
        f'{statistics.median(ratios):.3f}',
        spread,
        f'{cost.memory:.0f}',
        f'{cost.memory / base.memory:.2f}',
    ]


def _notes(args: argparse.Namespace, device: str) -> list[str]:
    name = torch.cuda.get_device_name() if device == 'cuda' else cpu_name()
    clock = 'CPU time of all threads' if device == 'cpu' else 'wall time'
    height, width = args.size
    return [
        f'{clock}, median of {args.rounds} rounds; ratios are of the same round.',
        f'{args.batch} images of {height}x{width}; {name}, {args.threads} threads; '
        f'torch {torch.__version__}.',
        f'Command: {" ".join(["python", *sys.argv])}',
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), benchmark, argv)
