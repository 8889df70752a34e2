"""``tools/benchmark.py``: what configs cost, as ratios to a first one in one run."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from aib_mm.cli.common import guarded, integer
from aib_mm.errors import UsageError
from aib_mm.experiments.cost.model import TRAIN, Job, Subject
from aib_mm.experiments.cost.results import (
    LAYOUTS,
    Cost,
    cost_json,
    cost_table,
    count_json,
    count_table,
)
from aib_mm.experiments.cost.workers import Workers
from aib_mm.experiments.grid.results import machine
from aib_mm.experiments.grid.rows import read_rows
from aib_mm.training.toolkits import toolkit_of
from aib_mm.utils.files import json_text, write_atomically
from aib_mm.utils.tables import Table, markdown, terminal_table

PLAIN_WIDTH = 240  # of the table where the output is no terminal
OUT_SUFFIXES = ('.md', '.json')


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py',
        description='Parameters, multiply-accumulates, time, throughput and memory of '
        'a training step and of prediction, of every config beside the first. Random '
        'weights and random images: nothing is loaded.',
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
        '--layout',
        choices=LAYOUTS,
        default=LAYOUTS[0],
        help='a row for each mode and config; or a column for each config, as the '
        "paper's Table 3 (%(default)s)",
    )
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
        table = cost_table(names, measured, args.layout)
        content = cost_json(names, measured)
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
    if args.count_only and args.layout != LAYOUTS[0]:
        raise UsageError(
            f'--layout {args.layout} is not for --count-only: leave it out'
        )
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
    with Workers(jobs) as workers:
        measured = {mode: workers.measure(mode, args.rounds) for mode in modes}
        profiles = {
            mode: workers.profile(mode, args.profile) for mode in modes if args.profile
        }
    return measured, profiles


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
            'are of the same round. Images/s and the time of one image alone are wall '
            'time, which other work on the machine makes worse.',
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
            text = json_text(dict(about=about, configs=content))
        else:
            text = markdown(table, notes)
        write_atomically(path, text)


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), benchmark, argv)
