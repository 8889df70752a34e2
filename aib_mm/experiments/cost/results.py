"""The tables of a benchmark."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from aib_mm.errors import choose
from aib_mm.utils.tables import ABSENT, Column, Table

LAYOUTS = ('modes', 'models')
#: What a config costs in one mode: a number, or a list of one for each round.
Cost = Mapping[str, float | list[float]]


#: Form of each entry of a cost in a table: its head, a factor, and its digits.
QUANTITIES = {
    'parameters': ('M parameters', 1e-6, 2),
    'macs': ('GMAC an image', 1e-9, 3),
    'seconds': ('ms a pass', 1e3, 1),
    'memory': ('MiB', 1, 0),
    'throughput': ('images/s', 1, 1),
    'latency': ('ms, one image', 1e3, 2),
}


def cost_table(
    names: Sequence[str],
    measured: Mapping[str, Sequence[Cost]],
    layout: str = LAYOUTS[0],
) -> Table:
    """What was measured, with ratios to the first config.

    Args:
        names: names of the configs.
        measured: the costs of each config, by mode.
        layout: ``'modes'``, a row for every mode and config; ``'models'``, a column for
            every config, as the paper's Table 3.
    """
    choose('layout', layout, LAYOUTS)
    known = next(iter(measured.values()))[0]
    keys = [key for key in QUANTITIES if key in known]
    heads = [QUANTITIES[key][0] for key in keys]
    cells = {
        mode: [[_cell(key, cost, costs[0]) for key in keys] for cost in costs]
        for mode, costs in measured.items()
    }
    if layout == 'modes':
        rows = [
            [name, mode, *row]
            for mode, of_mode in cells.items()
            for name, row in zip(names, of_mode, strict=True)
        ]
        return Table([*map(Column, ('config', 'mode', *heads))], rows)
    rows = [
        [f'{mode}: {head}', *row]
        for mode, of_mode in cells.items()
        for head, *row in zip(heads, *of_mode, strict=True)
        if row[0] != ABSENT
    ]
    return Table([*map(Column, ('', *names))], rows)


def _cell(key: str, cost: Cost, base: Cost) -> str:
    """The median; but in the first config's column its ratio, and the rounds' range."""
    values, others = (_listed(one[key]) for one in (cost, base))
    if not values:
        return ABSENT
    _, factor, digits = QUANTITIES[key]
    text = f'{factor * median(values):.{digits}f}'
    if cost is base:
        return text
    ratios = [a / b for a, b in zip(values, others, strict=True)]
    spread = f', {min(ratios):.2f}–{max(ratios):.2f}' if len(ratios) > 1 else ''
    return f'{text} (×{median(ratios):.3f}{spread})'


def _listed(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


def count_table(names: Sequence[str], counts: Sequence[Mapping[str, Any]]) -> Table:
    """A row a config: parameters and multiply-accumulates of one image."""
    parts = counts[0]['parts']
    heads = ('config', 'M parameters', 'GMAC, L = 1', *parts, 'GMAC at test', 'samples')
    rows = []
    for name, count in zip(names, counts, strict=True):
        drawn = [f'{key} = {number}' for key, number in count['samples'].items()]
        macs = (count['one_sample'], *count['parts'].values(), count['test'])
        cells = [f'{count["parameters"] / 1e6:.2f}', *(f'{n / 1e9:.3f}' for n in macs)]
        rows.append([name, *cells, ', '.join(drawn) or ABSENT])
    return Table([*map(Column, heads)], rows)
