"""What the scripts beside it share: a table of steps, each beside the first."""

from collections.abc import Mapping

import torch
from rich.console import Console

from aib_mm.experiments.cost.results import cost_table
from aib_mm.experiments.cost.timing import Pass, peak_bytes, timed
from aib_mm.experiments.provenance import machine_line
from aib_mm.utils.tables import terminal_table


def compare(title: str, steps: Mapping[str, Pass], rounds: int, threads: int) -> None:
    """Print the CPU time and the memory of steps, with ratios to the first.

    Args:
        title: what all of them do.
        steps: by their names; none is random in what it allocates.
        rounds: how often each is timed, in turn.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    costs = [
        {'seconds': times.used, 'memory': peak_bytes(step) / 2**20}
        for step, times in zip(
            steps.values(), timed([*steps.values()], rounds, threads), strict=True
        )
    ]
    Console(width=120).print(terminal_table(cost_table([*steps], {title: costs})))
    print(
        f'CPU time, median of {rounds} rounds, ratios of the same round, with their '
        f'range; {threads} threads; {machine_line()}'
    )
