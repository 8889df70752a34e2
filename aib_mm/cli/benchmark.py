"""``tools/benchmark.py``: what configs cost beside a first one, as ratios in one run.

Every config has a process of its own, which waits while another works: a round times
each of them once, one after the other, so that a machine's bad moment meets them all.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import multiprocessing as mp

from aib_mm.cli.benchmark_model import TRAIN, Job, MemoryMeter, Subject
from aib_mm.cli.benchmark_results import (
    Cost,
    cost_json,
    cost_table,
    count_json,
    count_table,
)
from aib_mm.cli.common import guarded, integer
from aib_mm.cli.grid_results import machine
from aib_mm.cli.grid_rows import read_rows
from aib_mm.cli.toolkits import UsageError, toolkit_of
from aib_mm.tables import Table, markdown, terminal_table

PLAIN_WIDTH = 200  # of the table where the output is no terminal
OUT_SUFFIXES = ('.md', '.json')


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py',
        description='Parameters, multiply-accumulates, time and memory of a training '
        'step and of prediction, of every config beside the first. Random weights and '
        'random images: nothing is loaded.',
    )
    parser.add_argument(
        'configs',
        nargs='+',
        metavar='CONFIG',
        help='config files, or grid files; ratios to the first',
    )
    parser.add_argument(
        '--only', nargs='+', default=[], metavar='NAME', help='rows, as in grid.py'
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
    parser.add_argument(
        '--count-only',
        action='store_true',
        help='only count parameters and multiply-accumulates: with one sample, and '
        'with as many as each config tests with',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='a GPU if there is')
    parser.add_argument(
        '--threads', type=int, default=os.cpu_count(), help='of the CPU (all cores)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of all configs, as in train.py',
    )
    parser.add_argument(
        '--profile',
        type=integer(0),
        default=0,
        metavar='N',
        help='also print the N operators that take most of a pass, mode by mode, of '
        'the last config',
    )
    parser.add_argument(
        '--out',
        nargs='+',
        default=[],
        metavar='FILE',
        help='also write the table (.md) or all numbers (.json) here',
    )
    return parser


def benchmark(args: argparse.Namespace) -> None:
    """Measure as the options say, print and write the table."""
    _check(args)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    jobs = [
        Job(
            row,
            tuple(args.cfg_options),
            tuple(args.size),
            args.batch,
            device,
            args.threads,
        )
        for row in read_rows(args.configs, args.only)
    ]
    for job in jobs:
        toolkit_of(job.row.load(job.options))
    names = [job.row.title for job in jobs]
    if args.count_only:
        torch.set_num_threads(args.threads)
        counts = [Subject(job).count() for job in jobs]
        table, content = count_table(names, counts), count_json(names, counts)
        profiles: dict[str, str] = {}
    else:
        measured, profiles = _measure(jobs, args)
        table, content = cost_table(names, measured), cost_json(names, measured)
    notes = _notes(args, device)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(terminal_table(table))
    print('\n'.join(notes))
    for mode, profile in profiles.items():
        print(f'\n{names[-1]}, {mode}:\n{profile}')
    _write(args, table, notes, content, device)


def _check(args: argparse.Namespace) -> None:
    for name in ('batch', 'rounds', 'threads'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name} must be at least 1, got {getattr(args, name)}')
    if min(args.size) < 1:
        raise UsageError(f'--size must be at least 1 1, got {args.size}')
    if min(args.samples) < 0:
        raise UsageError(f'--samples must not be negative, got {args.samples}')
    for path in args.out:
        if Path(path).suffix not in OUT_SUFFIXES:
            raise UsageError(
                f'--out writes {" and ".join(OUT_SUFFIXES)} files, got {path}'
            )


def _measure(
    jobs: Sequence[Job], args: argparse.Namespace
) -> tuple[dict[str, list[Cost]], dict[str, str]]:
    """Costs by mode, in the order of the jobs, and the profiles asked for."""
    # The test goes first: what training has allocated would count as its memory.
    modes = [f'test, L_a = {count}' for count in args.samples]
    modes += [] if args.no_train else [TRAIN]
    with _Workers(jobs) as workers:
        measured = {mode: workers.measure(mode, args.rounds) for mode in modes}
        profiles = {
            mode: workers.profile(mode, args.profile) for mode in modes if args.profile
        }
    return measured, profiles


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
                elapsed = self._ask(pipe, 'seconds', mode)
                if number > 0:  # the first one warms up
                    found.append(elapsed)
        memory = [self._ask(pipe, 'memory') for pipe in self.pipes]
        return [
            Cost(
                found,
                peak,
                self._ask(pipe, 'macs', mode),
                self._ask(pipe, 'parameters'),
            )
            for pipe, found, peak in zip(self.pipes, seconds, memory, strict=True)
        ]

    def profile(self, mode: str, rows: int) -> str:
        """The operators of one pass of the last config, the longest first."""
        return self._ask(self.pipes[-1], 'profile', mode, rows)

    def _ask(self, pipe: Connection, *request: Any) -> Any:
        try:
            pipe.send(request)
            return pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise UsageError(
                'a process ended while it was measured; its error is above'
            ) from error


def _work(job: Job, pipe: Connection) -> None:
    """Answer requests, a name of what is measured and its arguments, until closed."""
    torch.set_num_threads(job.threads)
    meter = MemoryMeter(job.device)
    subject = Subject(job)
    while True:
        try:
            what, *arguments = pipe.recv()
        except EOFError:
            return
        if what == 'memory':
            pipe.send(meter.take())
        else:
            pipe.send(getattr(subject, what)(*arguments))
            if what == 'macs':
                meter.take()  # counting is no part of the next mode


def _notes(args: argparse.Namespace, device: str) -> list[str]:
    height, width = args.size
    notes = [
        'GMAC: multiply-accumulates of convolutions and matrix products for one image '
        f'of {height}x{width}, in 10⁹.'
    ]
    if not args.count_only:
        facts = machine()
        clock = 'CPU time of all threads' if device == 'cpu' else 'wall time'
        name = facts['gpu'] if device == 'cuda' else facts['cpu']
        notes += [
            f'{clock} of {args.batch} images, median of {args.rounds} rounds; ratios '
            'are of the same round.',
            f'{name}, {args.threads} threads; torch {facts["torch"]}.',
        ]
    return [*notes, f'Command: {" ".join(["python", *sys.argv])}']


def _write(
    args: argparse.Namespace,
    table: Table,
    notes: Sequence[str],
    content: list[dict[str, Any]],
    device: str,
) -> None:
    about = dict(
        command=sys.argv, size=args.size, batch=args.batch, device=device, **machine()
    )
    for path in map(Path, args.out):
        if path.suffix == '.json':
            text = json.dumps(dict(about=about, configs=content), indent=2) + '\n'
        else:
            text = markdown(table, notes)
        path.write_text(text, encoding='utf-8')


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), benchmark, argv)
