"""The processes of a benchmark.

Every config has one of its own, which waits while another works: a round times each of
them once, one after the other, so that a machine's bad moment meets them all.
"""

from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import multiprocessing as mp

from aib_mm.errors import UsageError
from aib_mm.experiments.cost.model import TRAIN, Job, MemoryMeter, Seconds, Subject
from aib_mm.experiments.cost.results import Cost


class Workers:
    """A process per config, of which one works at a time."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        context = mp.get_context('spawn')
        self.batch = jobs[0].batch
        self.pipes: list[Connection] = []
        self.processes = []
        for job in jobs:
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=_work, args=(job, theirs)))
            self.pipes.append(ours)

    def __enter__(self) -> 'Workers':
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
        passes: list[list[Seconds]] = [[] for _ in self.pipes]
        latencies: list[list[float]] = [[] for _ in self.pipes]
        for number in range(rounds + 1):
            for pipe, times, latency in zip(self.pipes, passes, latencies, strict=True):
                found = [self._ask(pipe, 'seconds', mode)]
                alone = [] if mode == TRAIN else [self._ask(pipe, 'latency', mode)]
                if number > 0:  # the first one warms up
                    times += found
                    latency += alone
        memory = [self._ask(pipe, 'memory') for pipe in self.pipes]
        return [
            Cost(
                [found.used for found in times],
                [found.wall for found in times],
                latency,
                self.batch,
                peak,
                self._ask(pipe, 'macs', mode),
                self._ask(pipe, 'parameters'),
            )
            for pipe, times, latency, peak in zip(
                self.pipes, passes, latencies, memory, strict=True
            )
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
