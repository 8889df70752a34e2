"""Figures of Table 8 from what was measured, as tables and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from aib_mm.experiments.grid.results import machine
from aib_mm.experiments.maps.interpretability_run import Edited, Originals
from aib_mm.interpret.measure.consistency import (
    consistency_area,
    consistency_curve,
    consistency_score,
)
from aib_mm.utils.tables import Column, Table, markdown, percent_cell

CURVE = [round(0.01 * step, 2) for step in range(101)]


@dataclass
class Checkpoint:
    """What one checkpoint makes of the images and of every edit of them."""

    path: str
    maps: str
    originals: Originals
    edited: dict[str, Edited] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Of the images as they are, in [0, 1]."""
        return _share(self.originals.predicted == self.originals.labels)

    def same(self, edit: str) -> torch.Tensor:
        """Which predictions the edit leaves, ``(N,)`` bool."""
        return torch.from_numpy(self.edited[edit].predicted == self.originals.predicted)

    def score(self, edit: str, threshold: float) -> float:
        """The interpretability score, in [0, 1]."""
        return consistency_score(self._similarity(edit), self.same(edit), threshold)

    def area(self, edit: str) -> float:
        """Area under the score's curve over all thresholds, in [0, 1]."""
        return consistency_area(self._similarity(edit), self.same(edit))

    def curve(self, edit: str) -> list[float]:
        """The score at each threshold of ``CURVE``."""
        return consistency_curve(self._similarity(edit), self.same(edit), CURVE)

    def as_json(self, thresholds: Sequence[float]) -> dict[str, Any]:
        """All figures of this checkpoint; None where no prediction is consistent."""
        return dict(
            checkpoint=self.path,
            maps=self.maps,
            images=len(self.originals.labels),
            accuracy=self.accuracy,
            edits={
                name: dict(
                    accuracy=_share(edited.predicted == self.originals.labels),
                    prediction_consistent=_share(self.same(name)),
                    score={str(t): self.score(name, t) for t in thresholds},
                    area=self.area(name),
                    curve=list(self.curve(name)),
                )
                for name, edited in self.edited.items()
            },
        )

    def _similarity(self, edit: str) -> torch.Tensor:
        return torch.from_numpy(self.edited[edit].similarity)


@dataclass
class InterpretabilityResults:
    """All models of a run, each with its checkpoints.

    Attributes:
        models: checkpoints by the model's title, in the order of the table.
        edits: names of the columns.
        thresholds: of the attention's consistency.
        about: what the figures depend on, by name, for the JSON.
        notes: the same for readers.
    """

    models: Mapping[str, list[Checkpoint]]
    edits: Sequence[str]
    thresholds: Sequence[float]
    about: Mapping[str, Any]
    notes: Sequence[str]

    def tables(self) -> dict[str, Table]:
        """By title; figures in percent, mean ± sample standard deviation.

        A checkpoint of which no prediction is consistent has no score, and is left out.
        """
        tables = {
            f'Interpretability score, %, threshold {t:g}': self._table(
                lambda found, edit, t=t: found.score(edit, t)
            )
            for t in self.thresholds
        }
        tables['Area under the score over all thresholds, %'] = self._table(
            Checkpoint.area
        )
        tables['Consistent predictions, %'] = self._table(
            lambda found, edit: _share(found.same(edit)), accuracy=True
        )
        return tables

    def as_markdown(self) -> str:
        """Every table under its title, then the notes."""
        parts = [
            f'**{title}**\n\n{markdown(table, [])}'
            for title, table in self.tables().items()
        ]
        return '\n'.join(parts) + '\n' + '\n\n'.join(self.notes) + '\n'

    def as_json(self) -> dict[str, Any]:
        """Every checkpoint with all its figures, shares in [0, 1]."""
        return dict(
            about={**self.about, **machine(), 'curve_thresholds': CURVE},
            models={
                title: [found.as_json(self.thresholds) for found in checkpoints]
                for title, checkpoints in self.models.items()
            },
        )

    def _table(self, value: Any, accuracy: bool = False) -> Table:
        """One row a model, one column an edit."""
        rows = []
        for title, checkpoints in self.models.items():
            columns = [
                [value(found, edit) for found in checkpoints] for edit in self.edits
            ]
            if accuracy:
                columns.insert(0, [found.accuracy for found in checkpoints])
            rows.append([title, *map(percent_cell, columns)])
        heads = ['model', *(['accuracy'] if accuracy else []), *self.edits]
        return Table([Column(head) for head in heads], rows)


def _share(flags: Any) -> float:
    return float(flags.sum()) / len(flags)
