#!/usr/bin/env python
"""Training throughput of a config in one process and in several.

``python tools/dev/throughput.py CONFIG --size 64 64 --batch 4 --processes 1 2``

Random weights and images, every process with a batch of its own, gradients averaged by
``MMDistributedDataParallel``: over NCCL with a GPU for each process, else over gloo.
"""

import argparse
import os
import socket
import statistics
from pathlib import Path

import torch
from mmengine.model import MMDistributedDataParallel
from torch import distributed
from torch import multiprocessing as mp

from aib_mm.experiments.cost.model import TRAIN, Job, Seconds, Subject
from aib_mm.experiments.grid.rows import read_rows


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


def work(rank: int, processes: int, port: int, job: Job, steps: int, queue) -> None:
    """Train; put the seconds of each step."""
    torch.set_num_threads(job.threads)
    on_gpu = job.device == 'cuda'
    if on_gpu:
        torch.cuda.set_device(rank)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    distributed.init_process_group(
        'nccl' if on_gpu else 'gloo', rank=rank, world_size=processes
    )
    subject = Subject(job)
    if processes > 1:
        subject.model = MMDistributedDataParallel(
            subject.model,
            device_ids=[rank] if on_gpu else None,
            broadcast_buffers=False,
        )
    found: list[Seconds] = [subject.seconds(TRAIN) for _ in range(steps + 2)][2:]
    queue.put([tuple(one) for one in found])
    distributed.barrier()
    distributed.destroy_process_group()


def measure(job: Job, processes: int, steps: int) -> list[list[Seconds]]:
    """The steps of each process."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    queue = mp.get_context('spawn').SimpleQueue()
    context = mp.spawn(
        work, (processes, port, job, steps, queue), nprocs=processes, join=False
    )
    found = [[Seconds(*one) for one in queue.get()] for _ in range(processes)]
    while not context.join():
        pass
    return found


def main() -> None:
    """Print a line for each number of processes."""
    args = make_parser().parse_args()
    (row,) = read_rows([args.config])
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    options = tuple(args.cfg_options)
    job = Job(row, options, tuple(args.size), args.batch, device, args.threads)
    print('| config | processes | images a step | images/s | CPU ms an image |')
    print('|---|--:|--:|--:|--:|')
    for processes in args.processes:
        steps = [one for each in measure(job, processes, args.steps) for one in each]
        images = processes * args.batch
        rate = images / statistics.median(one.wall for one in steps)
        used = 1000 * statistics.median(one.used for one in steps) / args.batch
        cost = '–' if device == 'cuda' else f'{used:.1f}'
        name = Path(args.config).stem
        print(f'| {name} | {processes} | {images} | {rate:.1f} | {cost} |', flush=True)


if __name__ == '__main__':
    main()
