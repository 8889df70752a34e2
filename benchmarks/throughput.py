"""Training throughput of a config in one process and in several.

``python benchmarks/throughput.py CONFIG --size 64 64 --batch 4 --processes 1 2``

Random weights and images, every process with a batch of its own, gradients averaged by
``MMDistributedDataParallel``: over NCCL with a GPU for each process, else over gloo.
"""

import argparse
import os
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from torch import distributed
from torch import multiprocessing as mp
from torch.utils import benchmark

from aib_mm.diagnosis.configs import load_config
from aib_mm.experiments.cost.model import CostModel
from aib_mm.experiments.provenance import machine_line


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('config')
    parser.add_argument('--size', nargs=2, type=int, required=True)
    parser.add_argument('--batch', type=int, default=4, help='images of a process (4)')
    parser.add_argument('--processes', nargs='+', type=int, default=[1, 2])
    parser.add_argument('--steps', type=int, default=10, help='timed, after two (10)')
    parser.add_argument('--threads', type=int, default=1, help='of a process (1)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return parser


def work(
    rank: int, processes: int, port: int, args: argparse.Namespace, queue: Any
) -> None:
    """Train; put the seconds of a step, by the clock and of the CPU."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    distributed.init_process_group(
        'nccl' if on_gpu else 'gloo', rank=rank, world_size=processes
    )
    cfg = load_config(args.config, args.cfg_options)
    device = 'cuda' if on_gpu else 'cpu'
    subject = CostModel(cfg, tuple(args.size), args.batch, device)
    if processes > 1:
        subject.model = MMDistributedDataParallel(
            subject.model,
            device_ids=[rank] if on_gpu else None,
            broadcast_buffers=False,
        )
    # The number of steps is fixed: every process takes as many as the others.
    timers = [
        benchmark.Timer(
            'step()',
            timer=clock,
            globals={'step': subject.step(None)},
            num_threads=args.threads,
        )
        for clock in (benchmark.timer, time.process_time)
    ]
    queue.put([timer.timeit(args.steps).mean for timer in timers])
    distributed.barrier()
    distributed.destroy_process_group()


def measure(processes: int, args: argparse.Namespace) -> list[list[float]]:
    """The seconds of a step in each process, by the clock and of the CPU."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    queue = mp.get_context('spawn').SimpleQueue()
    arguments = (processes, port, args, queue)
    context = mp.spawn(work, arguments, nprocs=processes, join=False)
    found = [queue.get() for _ in range(processes)]
    while not context.join():
        pass
    return found


def main() -> None:
    """Print a line for each number of processes."""
    args = make_parser().parse_args()
    print('| config | processes | images a step | images/s | CPU ms an image |')
    print('|---|--:|--:|--:|--:|')
    for processes in args.processes:
        found = measure(processes, args)
        wall, used = (statistics.fmean(column) for column in zip(*found, strict=True))
        images = processes * args.batch
        name = Path(args.config).stem
        cost = '–' if torch.cuda.is_available() else f'{1000 * used / args.batch:.1f}'
        print(f'| {name} | {processes} | {images} | {images / wall:.1f} | {cost} |')
    print(f'\n{args.threads} threads a process; {machine_line()}')


if __name__ == '__main__':
    main()
