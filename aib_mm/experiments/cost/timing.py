"""Time and memory of a step, by torch's own Timer and profiler."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

Pass = Callable[[], Any]
SHORTEST = 0.01  # seconds of one measurement: what takes less is repeated within it


class Times(NamedTuple):
    """Seconds of a step in each round: by the clock, and of all threads of the CPU."""

    wall: list[float]
    used: list[float]


def timed(steps: Sequence[Pass], rounds: int, threads: int) -> list[Times]:
    """Time every step once a round, one after the other, each after a pass to warm up.

    A slow moment of the machine then meets them all; ratios are within one round.
    """
    # It looks for compilers, and warns where it finds none.
    from torch.utils import benchmark

    readings = [0.0, 0.0]  # of the CPU's time, at both ends of a block of passes

    def clock() -> float:
        now = benchmark.timer()  # waits for a GPU
        readings[:] = readings[1], time.process_time()
        return now

    used: list[float] = []

    def note(passes: int, _: float) -> None:
        used.append((readings[1] - readings[0]) / passes)

    found = [Times([], []) for _ in steps]
    for _ in range(rounds):
        for step, times in zip(steps, found, strict=True):
            timer = benchmark.Timer(
                'step()', timer=clock, globals={'step': step}, num_threads=threads
            )
            used.clear()
            # Its annotation says that the call-back never returns.
            measured = timer.blocked_autorange(
                note,  # type: ignore[arg-type]
                min_run_time=SHORTEST,
            )
            times.wall.append(measured.mean)
            times.used.append(statistics.fmean(used))
    return found


def peak_bytes(step: Pass, device: str = 'cpu') -> int:
    """Most memory of tensors that a step holds beyond what was there before it."""
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(
        activities=activities, profile_memory=True, acc_events=True
    ) as profile:
        step()
    events = profile.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak
