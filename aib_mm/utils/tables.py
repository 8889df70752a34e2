"""Tables of results: means over seeds, as text for a terminal, a page or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich import box
from rich.table import Table as TerminalTable

ABSENT = '–'


class Column(NamedTuple):
    """Head of a column of the results, and what its numbers mean."""

    head: str
    meaning: str = ''


@dataclass(frozen=True)
class Table:
    """Results as text; the first cell of each row names it.

    Raises:
        ValueError: a row with more or fewer cells than columns.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f'row {list(row)} has {len(row)} cells, the table has '
                    f'{len(self.columns)} columns'
                )


def mean_cell(values: Sequence[float], digits: int) -> str:
    """Mean ± sample standard deviation; one value is itself, none is a dash."""
    if not values:
        return ABSENT
    mean = f'{np.mean(values):.{digits}f}'
    if len(values) == 1:
        return mean
    return f'{mean} ± {np.std(values, ddof=1):.{digits}f}'


def percent_cell(shares: Sequence[float]) -> str:
    """``mean_cell`` of shares in [0, 1], in percent; NaN is left out."""
    return mean_cell([100 * share for share in shares if share == share], 2)


def digits_for(values: Sequence[float]) -> int:
    """Shares in [0, 1] get three digits, percentages and other numbers two."""
    return 3 if all(abs(value) <= 1 for value in values) else 2


def terminal_table(table: Table) -> TerminalTable:
    """Table for printing with rich."""
    drawn = TerminalTable(box=box.SIMPLE_HEAD)
    for i, column in enumerate(table.columns):
        drawn.add_column(column.head, justify='right' if i else 'left', no_wrap=not i)
    for row in table.rows:
        drawn.add_row(*row)
    return drawn


def markdown(table: Table, notes: Sequence[str]) -> str:
    """The table and its notes."""
    lines = [
        ' | '.join(column.head for column in table.columns),
        ' | '.join(['---', *['--:'] * (len(table.columns) - 1)]),
        *(' | '.join(row) for row in table.rows),
    ]
    body = '\n'.join(f'| {line} |' for line in lines)
    return '\n\n'.join([body, *notes]) + '\n'
