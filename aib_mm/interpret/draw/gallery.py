"""A self-contained HTML page of many images and what a model attended to in them.

One file without any reference to another. Knows no model and no host.
"""

import base64
import io
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aib_mm.interpret.draw.pages import write_page
from aib_mm.interpret.draw.report import MEAN_COLORS, STD_COLORS, gradient, map_uri
from aib_mm.interpret.record.inputs import Failure
from aib_mm.interpret.record.outcome import Outcome
from aib_mm.interpret.result import AttentionResult, Map, Pixels

BITS_COLORS = 'cividis'
#: Longest sides of what the page embeds, pixels.
PHOTO_SIZE, DRAWN_SIZE, MAP_SIZE = 160, 256, 64


@dataclass(frozen=True)
class Entry:
    """One image on the page, small.

    Attributes:
        name: see ``AttentionResult``.
        shape: height and width of the image.
        photo, drawn: data URIs of the image, and with its prediction.
        mean, std: ``(h, w)``.
        samples: ``(L_a, h, w)``.
        quantized: whether samples are anchors.
        bits: per position ``(h, w)``, or None.
        outcome: the prediction.
        right: whether it is, None where nobody knows.
        consistency: see ``AttentionResult``.
        measures: numbers by name, for people and for sorting.
    """

    name: str
    shape: tuple[int, int]
    photo: str
    drawn: str
    mean: Map
    std: Map
    samples: Map
    quantized: bool
    bits: Map | None
    outcome: Outcome
    right: bool | None
    consistency: float | None
    measures: Mapping[str, float]


def make_entry(result: AttentionResult, drawn: Pixels, right_from: float) -> Entry:
    """The page's part of a result; ``drawn`` is the image with its prediction."""
    outcome, information = result.outcome, result.information
    measures = dict(
        quality=outcome.quality,
        consistency=result.consistency,
        **result.uncertainty,
    )
    if information is not None:
        measures['total_bits'] = information.total_bits
        if information.positions != 1:
            measures['bits_per_position'] = information.bits_per_position
    has_map = information is not None and information.map is not None
    return Entry(
        name=result.name,
        shape=result.image.shape[:2],
        photo=jpeg_uri(result.image, PHOTO_SIZE),
        drawn=jpeg_uri(drawn, DRAWN_SIZE),
        mean=shrink(result.attention_mean),
        std=shrink(result.attention_std),
        samples=np.stack(
            [shrink(one, smooth=not result.quantized) for one in result.samples]
        ),
        quantized=result.quantized,
        bits=shrink(information.map) if has_map else None,
        outcome=outcome,
        right=None if outcome.quality is None else outcome.quality >= right_from,
        consistency=result.consistency,
        measures={k: v for k, v in measures.items() if v is not None},
    )


def write_gallery(
    path: Path,
    *,
    title: str,
    entries: Sequence[Entry],
    classes: Sequence[str],
    total: int,
    failures: Sequence[Failure] = (),
    value_range: tuple[float, float] | None = None,
    right_from: float = 0.5,
) -> None:
    """Write the page to ``path``.

    Args:
        path: file; its folder is made if need be.
        title: of the page.
        entries: in this order.
        classes: their names; a class without one is shown as its number.
        total: number of all images, of which the entries may be the first.
        failures: images that could not be loaded.
        value_range: of the colours of mean and samples; by default that of all of them.
        right_from: what counts as right, as the page says.
    """
    means = [part for one in entries for part in (one.mean, one.samples)]
    low, high = value_range or (
        min((float(part.min()) for part in means), default=0.0),
        max((float(part.max()) for part in means), default=1.0),
    )
    helpers = dict(
        map_uri=map_uri,
        gradient=gradient,
        number=number,
        range_ends=range_ends,
        mean_colors=MEAN_COLORS,
        std_colors=STD_COLORS,
        bits_colors=BITS_COLORS,
        measure_texts=_MEASURES,
        class_name=lambda i: classes[i] if 0 <= i < len(classes) else str(i),
    )
    write_page(
        path,
        'gallery.html',
        helpers,
        title=title,
        entries=entries,
        thirds=thirds([one.consistency for one in entries]),
        total=total,
        failures=failures,
        low=low,
        high=high,
        std_high=max((float(one.std.max()) for one in entries), default=0.0),
        bits_high=max(
            (float(one.bits.max()) for one in entries if one.bits is not None),
            default=0.0,
        ),
        present=[
            name for name in _MEASURES if any(name in e.measures for e in entries)
        ],
        true_classes=_classes(one.outcome.true or () for one in entries),
        predicted_classes=_classes(one.outcome.predicted for one in entries),
        right_from=right_from,
    )


#: What a measure is called, and what it is.
_MEASURES = {
    'quality': (
        'quality',
        'of the prediction, in [0, 1]: class right or not; F1 of the boxes at IoU 0.5; '
        'mean IoU over the classes of the image',
    ),
    'consistency': (
        'consistency',
        'mean cosine similarity of the pairs of sampled maps, each scaled to [0, 1]',
    ),
    'attention_std': ('mean std', 'of the attention, over the image'),
    'predictive_entropy': ('entropy', 'of the prediction, nats'),
    'mutual_information': (
        'mutual information',
        'of prediction and samples, nats: the part of the entropy that comes from '
        'samples that disagree',
    ),
    'total_bits': ('bits', 'that the latent tells of image and attention, at most'),
    'bits_per_position': ('bits per position', 'of the latent: image, region or pixel'),
}


def shrink(values: Map, smooth: bool = True) -> Map:
    """A map of at most ``MAP_SIZE`` on a side."""
    width, height = _fitted(values.shape, MAP_SIZE)
    if (height, width) == values.shape:
        return values
    how = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize((width, height), how))


def jpeg_uri(image: NDArray[np.uint8], size: int) -> str:
    """A data URI of an RGB image, made small."""
    picture = Image.fromarray(image)
    fitted = _fitted(image.shape[:2], size)
    if fitted != picture.size:
        picture = picture.resize(fitted, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format='JPEG', quality=85)
    data = base64.b64encode(buffer.getvalue()).decode('ascii')
    return f'data:image/jpeg;base64,{data}'


def number(value: float) -> str:
    """Four digits, or all before the point: 164,700 and not 1.647e+05."""
    return f'{value:,.0f}' if 1e4 <= abs(value) < 1e9 else f'{value:.4g}'


def range_ends(low: float, high: float, digits: int = 2) -> tuple[str, str]:
    """Both ends in a few digits; less than a thousandth of the other is 0."""
    least = max(abs(low), abs(high)) / 1000

    def text(value: float) -> str:
        if abs(value) < least:
            return '0'
        return f'{value:,.0f}' if 100 <= abs(value) < 1e9 else f'{value:.{digits}g}'

    return text(low), text(high)


def thirds(values: Sequence[float | None]) -> list[int | None]:
    """The third of all values that each is in, from 0, the lowest; None of None.

    What the page prints alike is in one third: the highest that any of it is in.
    """
    printed = [None if one is None else float(f'{one:.4g}') for one in values]
    known = sorted(one for one in printed if one is not None)
    return [
        None if one is None else 3 * (bisect_right(known, one) - 1) // len(known)
        for one in printed
    ]


def _fitted(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Width and height of at most ``size`` in the proportions of ``shape``."""
    scale = min(1.0, size / max(shape))
    return max(round(shape[1] * scale), 1), max(round(shape[0] * scale), 1)


def _classes(found: Iterable[Sequence[int]]) -> list[int]:
    return sorted({label for labels in found for label in labels})
