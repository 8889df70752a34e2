"""What keeps a grid's processes apart: cores, a lock on its folder, signals."""

import fcntl
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from aib_mm.errors import UsageError

#: Name of a GPU that hides all there are.
NO_GPU = '-1'


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def usable_gpus() -> list[str]:
    """Names that ``CUDA_VISIBLE_DEVICES`` has for the GPUs that this process sees."""
    count = torch.cuda.device_count()
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    return named.split(',')[:count] if named else [str(i) for i in range(count)]


def environments_of(jobs: int, gpus: Sequence[str] = ()) -> list[dict[str, str]]:
    """Variables of the processes, for each of ``jobs`` runs side by side.

    Each gets its share of the cores, unless told, and one of the GPUs, in turn. On CPUs
    they keep the memory that they free, as far as glibc lets itself be told: to give it
    back and ask again in every iteration was a seventh of a narrow VGG's training.
    """
    threads = max(1, usable_cores() // jobs)
    shared = {'OMP_NUM_THREADS': str(threads), **os.environ}
    shared.setdefault('MKL_NUM_THREADS', shared['OMP_NUM_THREADS'])
    if not {*gpus} - {NO_GPU}:
        shared.setdefault('MALLOC_TRIM_THRESHOLD_', str(1 << 30))
        shared.setdefault('MALLOC_MMAP_THRESHOLD_', str(1 << 30))
    if not gpus:
        return [dict(shared) for _ in range(jobs)]
    return [
        dict(shared, CUDA_VISIBLE_DEVICES=gpus[job % len(gpus)]) for job in range(jobs)
    ]


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a second grid out of the folder, also while a killed one's runs go on."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / '.lock').open('w') as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f'another grid, or a run that it left, is working in {out}: wait for '
                f'it, or give another --out'
            ) from None
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the signals that end a program interrupt it as Ctrl-C does."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = {number: signal.getsignal(number) for number in numbers}
    for number, handler in old.items():
        if handler != signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
