"""What a benchmark writes: its tables, notes, and JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aib_mm.cli.benchmark_model import Count
from aib_mm.tables import ABSENT, Column, Table


@dataclass(frozen=True)
class Cost:
    """Of one config and mode.

    Attributes:
        seconds: of every round.
        memory: peak, MiB.
        macs: multiply-accumulates of one image.
        parameters: of the model.
    """

    seconds: list[float]
    memory: float
    macs: float
    parameters: int


def cost_table(names: Sequence[str], measured: Mapping[str, Sequence[Cost]]) -> Table:
    """A row for every mode and config; ratios are to the first config."""
    heads = ('config', 'mode', 'M parameters', 'GMAC', 'GMAC ratio')
    heads += ('ms', 'ratio', 'spread', 'MiB', 'MiB ratio')
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
        f'{cost.parameters / 1e6:.2f}',
        f'{cost.macs / 1e9:.3f}',
        f'{cost.macs / base.macs:.3f}',
        f'{1000 * statistics.median(cost.seconds):.1f}',
        f'{statistics.median(ratios):.3f}',
        spread,
        f'{cost.memory:.0f}',
        f'{cost.memory / base.memory:.2f}',
    ]


def cost_json(
    names: Sequence[str], measured: Mapping[str, Sequence[Cost]]
) -> list[dict[str, Any]]:
    """Every config with its modes."""
    return [
        dict(
            config=name,
            modes=[
                dict(mode=mode, **asdict(costs[i])) for mode, costs in measured.items()
            ],
        )
        for i, name in enumerate(names)
    ]


def count_table(names: Sequence[str], counts: Sequence[Count]) -> Table:
    """A row a config: parameters and multiply-accumulates of one image."""
    parts = list(counts[0].parts)
    heads = ['config', 'M parameters', 'GMAC, L = 1', *parts, 'GMAC at test', 'samples']
    rows = []
    for name, count in zip(names, counts, strict=True):
        drawn = ', '.join(f'{key} = {value}' for key, value in count.samples.items())
        rows.append(
            [
                name,
                f'{count.parameters / 1e6:.2f}',
                f'{count.one_sample / 1e9:.3f}',
                *(f'{count.parts[part] / 1e9:.3f}' for part in parts),
                f'{count.test / 1e9:.3f}',
                drawn or ABSENT,
            ]
        )
    return Table([Column(head) for head in heads], rows)


def count_json(names: Sequence[str], counts: Sequence[Count]) -> list[dict[str, Any]]:
    """Every config with its counts."""
    return [
        dict(config=name, **asdict(count))
        for name, count in zip(names, counts, strict=True)
    ]
