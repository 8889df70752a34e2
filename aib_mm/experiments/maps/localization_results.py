"""The table of localisation from what was measured, as text and as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aib_mm.experiments.grid.results import machine
from aib_mm.experiments.maps.localization_run import Located
from aib_mm.utils.tables import Column, Table, markdown, percent_cell

MEASURES = {
    'energy': 'energy on object',
    'pointing': 'pointing game',
    'iou': 'IoU',
    'insertion': 'insertion',
    'deletion': 'deletion',
}
_OF_IMAGES = ('area', 'chance')


@dataclass
class LocatedCheckpoint:
    """What one checkpoint's maps reach.

    Attributes:
        path: of the checkpoint.
        titles: of the maps, by name.
        located: by the map's name.
    """

    path: str
    titles: Mapping[str, str]
    located: dict[str, Located] = field(default_factory=dict)

    def mean(self, name: str, measure: str) -> float:
        """Over the images that have the measure; NaN if none has."""
        values = getattr(self.located[name], measure)
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else math.nan

    def as_json(self) -> dict[str, Any]:
        """All figures, shares in [0, 1]; None where no image shows an object."""
        any_map = next(iter(self.located))
        first = self.located[any_map]
        return dict(
            checkpoint=self.path,
            images=len(first.labels),
            without_object=int(np.isnan(first.area).sum()),
            accuracy=float((first.labels == first.predicted).mean()),
            **{key: self.mean(any_map, key) for key in _OF_IMAGES},
            maps={
                name: dict(
                    title=self.titles[name],
                    **{key: self.mean(name, key) for key in MEASURES},
                )
                for name in self.located
            },
        )


@dataclass
class LocalizationResults:
    """All models of a run.

    Attributes:
        models: checkpoints by the model's title, in the order of the table.
        about: what the figures depend on, by name, for the JSON.
        notes: the same for readers.
    """

    models: Mapping[str, list[LocatedCheckpoint]]
    about: Mapping[str, Any]
    notes: Sequence[str]

    def table(self) -> Table:
        """A row for each model and map; percent, mean ± sample standard deviation."""
        rows = []
        for title, checkpoints in self.models.items():
            for name, map_title in checkpoints[0].titles.items():
                cells = [
                    percent_cell([found.mean(name, key) for found in checkpoints])
                    for key in MEASURES
                ]
                rows.append([title, map_title, *cells])
        heads = ['model', 'map', *(f'{head} %' for head in MEASURES.values())]
        return Table([Column(head) for head in heads], rows)

    def as_markdown(self) -> str:
        """The table, then the notes."""
        return markdown(self.table(), self.notes)

    def as_json(self) -> dict[str, Any]:
        """Every checkpoint with all its figures."""
        return dict(
            about={**self.about, **machine()},
            models={
                title: [found.as_json() for found in checkpoints]
                for title, checkpoints in self.models.items()
            },
        )
