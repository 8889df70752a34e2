"""A self-contained HTML page: what a classifier attended to, image by image.

One file without any reference to another: pictures are inlined PNGs, styles and the
small script are in the page. Knows arrays only, no model and no host.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aib_mm.interpret.draw.overlay import palette
from aib_mm.interpret.draw.pages import write_page
from aib_mm.utils.tables import Table

MEAN_COLORS = 'viridis'
STD_COLORS = 'magma'
TOP_SCORES = 3


@dataclass(frozen=True)
class Case:
    """One image and what one model made of it.

    Attributes:
        name: identifies the image, the same for every model.
        image: ``(H, W, 3)`` uint8, RGB.
        label: index of the true class.
        scores: ``(C,)``, in [0, 1].
        mask: ``(H, W)`` bool, the object.
        attention_mean, attention_std: ``(h, w)``, None in a model without attention.
        quantized: ``(h, w)``, a sample of the attention rounded to anchors.
        anchors_used: how many different anchors that sample took.
        measures: numbers of this image by name, as text.
    """

    name: str
    image: NDArray[np.uint8]
    label: int
    scores: NDArray[np.floating]
    mask: NDArray[np.bool_] | None = None
    attention_mean: NDArray[np.floating] | None = None
    attention_std: NDArray[np.floating] | None = None
    quantized: NDArray[np.floating] | None = None
    anchors_used: int | None = None
    measures: Mapping[str, str] = field(default_factory=dict)

    @property
    def predicted(self) -> int:
        """Index of the class with the highest score."""
        return int(np.argmax(self.scores))

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the true class."""
        return self.predicted == self.label


@dataclass(frozen=True)
class ModelCases:
    """One model's part of the page.

    Attributes:
        title: heading.
        about: one or two sentences under it.
        cases: shown in full, right and wrong apart, in the order given.
        num_right, num_wrong: of all images the model was tested on.
        shared: cases to compare between models; the same images for each model.
    """

    title: str
    about: str
    cases: Sequence[Case]
    num_right: int
    num_wrong: int
    shared: Sequence[Case] = ()

    @property
    def right(self) -> list[Case]:
        """The cases predicted right."""
        return [case for case in self.cases if case.is_right]

    @property
    def wrong(self) -> list[Case]:
        """The cases predicted wrong."""
        return [case for case in self.cases if not case.is_right]

    @property
    def has_attention(self) -> bool:
        """Whether the cases have maps."""
        return any(case.attention_mean is not None for case in self.cases)

    @cached_property
    def largest_std(self) -> float:
        """Upper end of the colour scale of this model's std maps."""
        maps = [c.attention_std for c in self.cases if c.attention_std is not None]
        return max((float(m.max()) for m in maps), default=0.0)


def write_report(
    path: Path,
    *,
    title: str,
    introduction: str,
    table: Table,
    notes: Sequence[str],
    models: Sequence[ModelCases],
    classes: Sequence[str],
) -> None:
    """Write the page to ``path``.

    Args:
        path: file; its folder is made if need be.
        title: of the page.
        introduction: what one sees.
        table: the results.
        notes: sentences under the table.
        models: one section each.
        classes: name of each class.

    Raises:
        ValueError: shapes that do not fit, a label or score without a class name,
            attention in some cases of a model only, or ``shared`` images that differ
            between models.
    """
    for model in models:
        for case in (*model.cases, *model.shared):
            _check_case(case, len(classes))
        if len({case.attention_mean is None for case in model.cases}) > 1:
            raise ValueError(
                f'cases of {model.title!r}: some have attention_mean and some do not'
            )
    _check_shared(models)
    helpers = dict(
        image_uri=image_uri,
        map_uri=map_uri,
        outline=outline,
        top_scores=top_scores,
        gradient=gradient,
        mean_colors=MEAN_COLORS,
        std_colors=STD_COLORS,
    )
    write_page(
        path,
        'report.html',
        helpers,
        title=title,
        introduction=introduction,
        table=table,
        notes=notes,
        models=models,
        classes=classes,
    )


def image_uri(image: NDArray[np.uint8]) -> str:
    """A data URI of an RGB image ``(H, W, 3)`` uint8."""
    return _png_uri(Image.fromarray(image))


def map_uri(values: NDArray[np.floating], high: float, colors: str) -> str:
    """A data URI of a map ``(h, w)``, coloured from 0 to ``high`` and clipped there."""
    scaled = np.clip(values / high if high > 0 else np.zeros_like(values), 0.0, 1.0)
    picture = Image.fromarray(np.round(scaled * 255).astype(np.uint8)).convert('P')
    picture.putpalette(palette(colors).tobytes())
    return _png_uri(picture)


def outline(mask: NDArray[np.bool_]) -> str:
    """SVG path data of the border of a mask ``(H, W)``, in units of its pixels."""
    padded = np.pad(mask, 1)
    across = padded[1:, 1:-1] != padded[:-1, 1:-1]
    down = padded[1:-1, 1:] != padded[1:-1, :-1]
    edges = [f'M{x} {y}h1' for y, x in np.argwhere(across)]
    edges += [f'M{x} {y}v1' for y, x in np.argwhere(down)]
    return ''.join(edges)


def top_scores(scores: NDArray[np.floating]) -> list[tuple[int, float]]:
    """The highest scores with their classes, highest first."""
    order = np.argsort(-scores, kind='stable')[:TOP_SCORES]
    return [(int(i), float(scores[i])) for i in order]


def _png_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format='PNG', optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode('ascii')
    return f'data:image/png;base64,{data}'


def gradient(colors: str, stops: int = 9) -> str:
    """CSS colours along a colour map, from low to high."""
    chosen = palette(colors)[np.linspace(0, 255, stops).round().astype(int)]
    return ', '.join('#{:02x}{:02x}{:02x}'.format(*rgb) for rgb in chosen)


def _check_case(case: Case, num_classes: int) -> None:
    where = f'case {case.name!r}'
    if case.image.dtype != np.uint8 or case.image.shape[2:] != (3,):
        raise ValueError(
            f'{where}: image must be (H, W, 3) uint8, got {case.image.shape} '
            f'{case.image.dtype}'
        )
    if case.scores.shape != (num_classes,) or not 0 <= case.label < num_classes:
        raise ValueError(
            f'{where}: got label {case.label} and scores of shape '
            f'{case.scores.shape} for {num_classes} classes'
        )
    if case.mask is not None and case.mask.shape != case.image.shape[:2]:
        raise ValueError(
            f'{where}: the mask must be as large as the image '
            f'{case.image.shape[:2]}, got {case.mask.shape}'
        )
    for name in ('attention_mean', 'attention_std', 'quantized'):
        values = getattr(case, name)
        if values is not None and values.ndim != 2:
            raise ValueError(f'{where}: {name} must be (h, w), got {values.shape}')


def _check_shared(models: Sequence[ModelCases]) -> None:
    names = [[case.name for case in model.shared] for model in models]
    for model, shared in zip(models, names, strict=True):
        if shared != names[0]:
            raise ValueError(
                f'shared images of {model.title!r} are {shared}, those of '
                f'{models[0].title!r} are {names[0]}: give the same to all models'
            )
