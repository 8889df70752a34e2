"""The paper's figures beside ours, with the difference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from aib_mm.experiments.grid.results import GridResults, numbers, seeds_cell
from aib_mm.experiments.reproduce.panels import Panel
from aib_mm.utils.tables import ABSENT, Column, Table

COLUMNS = ('model', 'the paper', 'ours', 'difference', 'seeds')


class Pair(NamedTuple):
    """A figure of the paper, None where it prints none, and ours of each seed."""

    title: str
    paper: float | None
    ours: Sequence[float | None]


def comparison(pairs: Iterable[Pair], digits: int) -> Table:
    """A row for each: the paper's, ours as mean ± deviation, ours less the paper's."""
    rows = []
    for title, paper, ours in pairs:
        known = numbers(ours)
        printed = ABSENT if paper is None else f'{paper:.{digits}f}'
        difference = ABSENT
        if known and paper is not None:
            difference = f'{fmean(known) - paper:+.{digits}f}'
        rows.append(
            [title, printed, seeds_cell(ours, digits), difference, str(len(ours))]
        )
    return Table([*map(Column, COLUMNS)], rows)


@dataclass
class PaperResults(GridResults):
    """The runs of a table of the paper.

    Attributes:
        panels: parts of the table with their rows.
        figures: the paper's figures, by column and row.
    """

    panels: Sequence[Panel] = ()
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def tables(self) -> dict[str, Table]:
        """A table for each column of the paper's."""
        return {
            f'{column.head}, {column.meaning}': comparison(
                [
                    Pair(
                        row.title,
                        self.figures.get(column.key, {}).get(row.name),
                        [column.value(done) for done in self.done(panel.name(row))],
                    )
                    for row in panel.rows
                ],
                column.digits,
            )
            for panel in self.panels
            for column in panel.part.columns
        }
