"""What a benchmark writes: its tables, notes, and JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aib_mm.errors import choose
from aib_mm.experiments.cost.model import Count
from aib_mm.utils.tables import ABSENT, Column, Table

LAYOUTS = ('modes', 'models')


@dataclass(frozen=True)
class Cost:
    """Of one config and mode.

    Attributes:
        seconds: of a pass in every round, ``Seconds.used``.
        wall: the same by the clock.
        latency: of one image alone, by the clock; empty for training.
        batch: images of a pass.
        memory: peak, MiB.
        macs: multiply-accumulates of one image.
        parameters: of the model.
    """

    seconds: list[float]
    wall: list[float]
    latency: list[float]
    batch: int
    memory: float
    macs: float
    parameters: int

    @property
    def throughput(self) -> float:
        """Images a second by the clock."""
        return self.batch / statistics.median(self.wall)


def cost_table(
    names: Sequence[str],
    measured: Mapping[str, Sequence[Cost]],
    layout: str = LAYOUTS[0],
) -> Table:
    """What was measured, with ratios to the first config.

    Args:
        names: of the configs.
        measured: of each config, by mode.
        layout: ``'modes'``, a row for every mode and config; ``'models'``, a column for
            every config, as the paper's Table 3.
    """
    choose('layout', layout, LAYOUTS)
    return (_by_mode if layout == 'modes' else _by_model)(names, measured)


def _by_mode(names: Sequence[str], measured: Mapping[str, Sequence[Cost]]) -> Table:
    heads = ('config', 'mode', 'M parameters', 'GMAC', 'GMAC ratio')
    heads += ('ms', 'ratio', 'spread', 'MiB', 'MiB ratio', 'images/s', 'ms, one image')
    rows = [
        [name, mode, *_cells(cost, costs[0])]
        for mode, costs in measured.items()
        for name, cost in zip(names, costs, strict=True)
    ]
    return Table([Column(head) for head in heads], rows)


def _cells(cost: Cost, base: Cost) -> list[str]:
    ratios = _ratios(cost.seconds, base.seconds)
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
        f'{cost.throughput:.1f}',
        f'{1000 * statistics.median(cost.latency):.2f}' if cost.latency else ABSENT,
    ]


def _by_model(names: Sequence[str], measured: Mapping[str, Sequence[Cost]]) -> Table:
    first = next(iter(measured.values()))
    parameters = [
        (cost.parameters / 1e6, cost.parameters / first[0].parameters) for cost in first
    ]
    rows = [_row('M parameters', parameters, 2)]
    for mode, costs in measured.items():
        rows += [[f'{mode}: {head}', *cells] for head, *cells in _mode_rows(costs)]
    return Table([Column(head) for head in ('', *names)], rows)


def _mode_rows(costs: Sequence[Cost]) -> list[list[str]]:
    """What one mode costs, a row for each quantity."""
    base = costs[0]
    macs = [(cost.macs / 1e9, cost.macs / base.macs) for cost in costs]
    memory = [(cost.memory, cost.memory / base.memory) for cost in costs]
    passes = [_milliseconds(cost.seconds, base.seconds) for cost in costs]
    throughput = [
        (cost.throughput, 1 / _median_ratio(cost.wall, base.wall)) for cost in costs
    ]
    rows = [_row('GMAC an image', macs, 3)]
    if base.latency:
        latency = [_milliseconds(cost.latency, base.latency) for cost in costs]
        rows.append(_row('ms, one image', latency, 2))
    return [
        *rows,
        _row(f'images/s, {base.batch} at a time', throughput, 1),
        _row('ms a pass', passes, 1),
        _row('MiB', memory, 0),
    ]


def _row(head: str, values: Sequence[tuple[float, float]], digits: int) -> list[str]:
    """A value for each config, with its ratio to the first."""
    (first, _), *others = values
    cells = [f'{value:.{digits}f} (×{ratio:.2f})' for value, ratio in others]
    return [head, f'{first:.{digits}f}', *cells]


def _milliseconds(
    seconds: Sequence[float], base: Sequence[float]
) -> tuple[float, float]:
    return 1000 * statistics.median(seconds), _median_ratio(seconds, base)


def _median_ratio(seconds: Sequence[float], base: Sequence[float]) -> float:
    return statistics.median(_ratios(seconds, base))


def _ratios(seconds: Sequence[float], base: Sequence[float]) -> list[float]:
    """Within each round."""
    return [a / b for a, b in zip(seconds, base, strict=True)]


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
