"""An HTML page of images and of what models attended to in them.

Styles and the small script are in the file; pictures are where its cases say: in it, or
in files beside it, loaded when seen. It depends on no model and no host.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from aib_mm.interpret.draw import pictures
from aib_mm.interpret.draw.cases import (
    ATTENTION,
    IN_FRONT,
    MEASURES,
    SPREAD,
    Case,
    Picture,
    Range,
    tile_ranges,
)
from aib_mm.interpret.draw.truth import ClassRow
from aib_mm.interpret.record.inputs import Failure
from aib_mm.utils.files import finite, write_atomically
from aib_mm.utils.tables import Column, Table


@dataclass(frozen=True)
class Section:
    """One model's part of the page.

    Attributes:
        title: heading, or ''.
        about: one or two sentences under it, or ''.
        cases: cases shown in full, in the order given.
        num_right, num_wrong: counts over all images of the test; if given, right
            and wrong cases stand apart.
        shared: cases to compare between models; the same images for each model.
    """

    title: str
    about: str
    cases: Sequence[Case]
    num_right: int | None = None
    num_wrong: int | None = None
    shared: Sequence[Case] = ()

    @property
    def right(self) -> list[Case]:
        """The cases predicted right."""
        return [case for case in self.cases if case.right]

    @property
    def wrong(self) -> list[Case]:
        """The cases predicted wrong."""
        return [case for case in self.cases if case.right is False]

    @property
    def tiles(self) -> list[Picture]:
        """Tiles of its cases, whose colours mean the same."""
        return [tile for case in self.cases for tile in case.tiles]


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    classes: Sequence[str],
    table: Table | None = None,
    notes: Sequence[str] = (),
    failures: Sequence[Failure] = (),
    value_range: Range | None = None,
    by_class: Sequence[ClassRow] = (),
    class_measure: Column | None = None,
) -> None:
    """Write the page to ``path``.

    Args:
        path: file; its folder is made if need be.
        title: heading of the page.
        lead: introduction: what one sees.
        sections: one for each model.
        classes: names of the classes; one without is shown as its number.
        table: the results.
        notes: sentences under the table.
        failures: images that could not be loaded.
        value_range: ends of the colours of the attention; by default those of all
            maps.
        by_class: the classes of all images; ``class_measure`` is their value.

    Raises:
        ValueError: ``shared`` images that differ between sections.
    """
    _check_shared(sections)
    cases = list(chain.from_iterable(section.cases for section in sections))
    shown = [*cases, *chain.from_iterable(section.shared for section in sections)]
    tiles = list(chain.from_iterable(case.tiles for case in shown))
    common = tile_ranges(tiles, value_range)
    text = _template(_labels(cases, classes)).render(
        title=title,
        lead=lead,
        sections=sections,
        table=table,
        notes=notes,
        failures=failures,
        tiles=tiles,
        outlined=any(case.outline for case in shown),
        attention_range=common.get('attention'),
        ranges_of=partial(_ranges, common=common),
        by_class=by_class,
        class_measure=class_measure,
    )
    write_atomically(path, text)


def _ranges(section: Section, common: dict[str, Range]) -> dict[str, Range]:
    """Ends of a section's scales; those of the attention are common to all."""
    own = tile_ranges(section.tiles)
    return own | {scale: common[scale] for scale in ATTENTION if scale in own}


def _template(labels: dict[str, Any]) -> Any:
    """The page's template; its macros see ``labels`` and what pictures are made by."""
    # Here, as importing it takes as long as half of this package.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A number that is none would stop the script, which reads JSON.
    environment.policies['json.dumps_function'] = _dumps
    environment.globals.update(vars(pictures), **labels)
    return environment.get_template('page.html')


def _dumps(content: Any, **settings: Any) -> str:
    return json.dumps(finite(content), allow_nan=False, **settings)


def _labels(cases: Sequence[Case], classes: Sequence[str]) -> dict[str, Any]:
    """What cases are told apart by: their classes, measures and verdicts."""

    def named(labels: Iterable[int]) -> list[tuple[int, str]]:
        return [(i, class_name(i)) for i in sorted(set(labels))]

    def class_name(index: int) -> str:
        return classes[index] if 0 <= index < len(classes) else str(index)

    consistency = [case.measures.get('consistency') for case in cases]
    third = thirds([None if isinstance(one, str) else one for one in consistency])
    preference = [case.measures.get('preference') for case in cases]
    known = [one for one in preference if isinstance(one, float)]
    found = [
        ('verdict', 'right', 'right', sum(case.right is True for case in cases)),
        ('verdict', 'wrong', 'wrong', sum(case.right is False for case in cases)),
        ('looks', 'background', 'look at the background', sum(v < 1 for v in known)),
    ]
    return dict(
        class_name=class_name,
        true_classes=named(i for case in cases for i in case.true or ()),
        predicted_classes=named(i for case in cases for i in case.predicted),
        judged=any(case.right is not None for case in cases),
        MEASURES=MEASURES,
        found=[one for one in found if one[-1]],
        IN_FRONT=IN_FRONT,
        SPREAD=SPREAD.tolist(),
        measured=[name for name in MEASURES if any(name in c.measures for c in cases)],
        third=dict(zip(map(id, cases), third, strict=True)),
        id=id,
    )


def thirds(values: Sequence[float | None]) -> list[int | None]:
    """The third of all values that each is in by its rank, from 0, the lowest.

    None for None; for all, where the lowest and the highest third have values that the
    page prints alike.
    """
    known = sorted((one, i) for i, one in enumerate(values) if one is not None)
    found: list[int | None] = [None] * len(values)
    low, high = known[: -(-len(known) // 3)], known[len(known) - len(known) // 3 :]
    if high and pictures.number(low[-1][0]) != pictures.number(high[0][0]):
        for rank, (_, i) in enumerate(known):
            found[i] = 3 * rank // len(known)
    return found


def _check_shared(sections: Sequence[Section]) -> None:
    names = [[case.name for case in section.shared] for section in sections]
    for section, shared in zip(sections, names, strict=True):
        if shared != names[0]:
            raise ValueError(
                f'shared images of {section.title!r} are {shared}, those of '
                f'{sections[0].title!r} are {names[0]}: give the same to all models'
            )
