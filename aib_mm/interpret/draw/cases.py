"""One image and what a model made of it, as the page and the files show it.

A new kind of map is a row of ``KINDS`` and a tile, a new number a row of ``MEASURES``
and a value.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from aib_mm.errors import choose
from aib_mm.interpret.draw.pictures import SCALES, data_uri, image_jpeg, map_png, shrink
from aib_mm.interpret.result import AttentionResult, Map
from aib_mm.utils.tables import Column

#: Shares of a map's positions whose values the page knows: each twentieth.
SPREAD = np.linspace(0, 1, 21)
TOP_SCORES = 3
#: Scales of the attention itself, on which models and images compare.
ATTENTION = ('attention', 'samples')
#: Fields of predictions that have a place in the image, so that drawing them tells.
PLACED = ('pred_instances', 'pred_sem_seg')

Range = tuple[float, float]


class Kind(NamedTuple):
    """What a map is, in one word and in words; its scale, one of ``SCALES``.

    ``over`` says whether the files beside the page show it over the image too.
    """

    caption: str
    meaning: str
    scale: str
    over: bool = False


KINDS = {
    'mean': Kind('mean', 'Mean map', 'attention', over=True),
    'std': Kind('std', 'Standard deviation of the attention', 'std', over=True),
    'quantized': Kind(
        'quantised', 'A sample of the attention, quantised', 'attention', over=True
    ),
    'passed': Kind('bits passed', 'Bits that the map lets through', 'passed'),
    'bits': Kind('bits', 'Bits of the latent per position', 'bits'),
    'sample': Kind('sample', 'A sample of the attention', 'attention'),
}

#: Numbers that images can be sorted by: what they are called and what they are. The
#: page shows those of ``IN_FRONT`` with each image, the others when asked.
IN_FRONT = ('quality', 'on_object', 'preference', 'consistency', 'predictive_entropy')
MEASURES = {
    'quality': Column(
        'quality',
        'of the prediction, in [0, 1]: class right or not; F1 of the boxes at IoU 0.5; '
        'mean IoU over the classes of the image',
    ),
    'on_object': Column(
        'on the object',
        'share of the mean map, its least value taken off, that lies on the true '
        'objects, in [0, 1]',
    ),
    'object_area': Column('object area', 'share of the image that is the true objects'),
    'preference': Column(
        'against chance',
        'the share on the object by the object area: 1 has no preference, less looks '
        'at the background',
    ),
    'consistency': Column(
        'consistency',
        'mean cosine similarity of the pairs of sampled maps, each scaled to [0, 1]',
    ),
    'attention_std': Column('mean std', 'of the attention, over the image'),
    'predictive_entropy': Column('entropy', 'of the prediction, nats'),
    'mutual_information': Column(
        'mutual information',
        'of prediction and samples, nats: the part of the entropy that comes from '
        'samples that disagree',
    ),
    'passed_bits': Column(
        'bits passed', 'through the attention, over the image, at most'
    ),
    'total_bits': Column(
        'bits', 'that the latent tells of image and attention, at most'
    ),
    'bits_per_position': Column(
        'bits per position', 'of the latent: image, region or pixel'
    ),
}


@dataclass(frozen=True)
class Tile:
    """A map of one image.

    Attributes:
        name: a key of ``KINDS``; where there are several, with a number: ``sample_1``.
        values: ``(h, w)``.
        note: a few words under it.
        smooth: whether values between two positions mean anything; anchors do not.
        apart: whether a sample is of another level than the mean, and so has a scale
            of its own.

    Raises:
        ValueError: another kind, or values of another shape.
    """

    name: str
    values: Map
    note: str = ''
    smooth: bool = True
    apart: bool = False

    def __post_init__(self) -> None:
        choose('kind of map', self.name.partition('_')[0], KINDS)
        if self.values.ndim != 2:
            raise ValueError(f'{self.name} must be (h, w), got {self.values.shape}')

    @property
    def kind(self) -> Kind:
        """Kind of the map."""
        kind = KINDS[self.name.partition('_')[0]]
        return kind._replace(scale='samples') if self.apart else kind

    @property
    def ends(self) -> Range:
        """Least and greatest value."""
        return float(self.values.min()), float(self.values.max())

    def picture(self, folder: Path | None = None) -> 'Picture':
        """The map as the page shows it, small.

        Args:
            folder: folder beside the page for ``grey_<name>.png``; None embeds it.
        """
        values = shrink(self.values, self.smooth)
        source = _stored(folder, f'grey_{self.name}.png', map_png(values), 'image/png')
        places = (SPREAD * (values.size - 1)).astype(int)
        spread = np.sort(values, axis=None)[places].astype(float).tolist()
        return Picture(self.name, self.kind, source, spread, self.note, self.smooth)


class Picture(NamedTuple):
    """A map without its values: a grey picture, which the browser colours.

    Attributes:
        name, kind, note, smooth: those of the ``Tile``.
        source: address of the picture; black is the least value, white the greatest.
        spread: values that the shares ``SPREAD`` of the positions do not exceed.
    """

    name: str
    kind: Kind
    source: str
    spread: Sequence[float]
    note: str
    smooth: bool

    @property
    def ends(self) -> Range:
        """Least and greatest value."""
        return self.spread[0], self.spread[-1]


@dataclass(frozen=True)
class Case:
    """One image and what one model made of it, ready for the page.

    Attributes:
        name: identifies the image, the same for every model.
        photo: address of the image: a data URI, or a path from the page.
        shape: its height and width, of which the proportions count.
        predicted: classes, the surest or largest first.
        true: the classes that are there, None where unknown.
        right: whether the prediction is right, None where unknown.
        tiles: its maps, in the order shown.
        drawn: address of the image with its prediction, or ''.
        outline: address of the objects' borders, or ''.
        scores: the highest and the true ones, by class: what ``top_scores`` gives.
        measures: numbers by their names in ``MEASURES``, and others as text.
    """

    name: str
    photo: str
    shape: tuple[int, ...]
    predicted: Sequence[int]
    true: Sequence[int] | None
    right: bool | None
    tiles: Sequence[Picture] = ()
    drawn: str = ''
    outline: str = ''
    scores: Sequence[tuple[int, float]] = ()
    measures: Mapping[str, float | str] = field(default_factory=dict)


def tile_ranges(
    tiles: Iterable[Tile | Picture], value_range: Range | None = None
) -> dict[str, Range]:
    """Values at the ends of each scale that some of the tiles have.

    They are the least and greatest value; on ``ATTENTION`` ``value_range``, if given.
    """
    ranges: dict[str, Range] = {}
    for tile in tiles:
        scale = tile.kind.scale
        low, high = tile.ends
        low = 0.0 if SCALES[scale].from_zero else low
        least, greatest = ranges.get(scale, (low, high))
        ranges[scale] = min(low, least), max(high, greatest)
    if value_range is not None:
        ranges |= dict.fromkeys(ranges.keys() & ATTENTION, value_range)
    return ranges


def top_scores(
    scores: NDArray[np.floating], true: Sequence[int] | None
) -> list[tuple[int, float]]:
    """Classes and scores: the highest of ``(n,)``, and those of the true classes."""
    order = np.argsort(-scores, kind='stable').tolist()
    kept = {*order[:TOP_SCORES], *(true or ())}
    return [(i, float(scores[i])) for i in order if i in kept]


def result_tiles(result: AttentionResult) -> list[Tile]:
    """All maps of an image, as large as it is; no std where nothing is random.

    Where the model has several levels, notes say which of them a map is of.
    """
    count = len(result.levels)
    apart = count > 1 and result.level == 'mean'
    mean = total = sampled = f'level {result.level}' if count > 1 else ''
    if apart:
        mean, total = f'mean of {count} levels', f'sum of {count} levels'
        sampled = 'finest level'
    source = '' if result.source == 'attention' else result.words
    note = ', '.join(filter(None, (source, mean)))
    tiles = [Tile('mean', result.attention_mean, note)]
    if not result.is_certain:
        tiles.append(Tile('std', result.attention_std, mean))
    if result.quantized:
        anchors = result.samples[0]
        tiles.append(Tile('quantized', anchors, sampled, smooth=False, apart=apart))
    if result.passed is not None and result.passed.map is not None:
        tiles.append(Tile('passed', result.passed.map, total))
    if result.information is not None and result.information.map is not None:
        tiles.append(Tile('bits', result.information.map))
    for i, sample in enumerate(() if result.is_certain else result.samples, 1):
        sign = 'draws may be negative' if sample.min() < 0 else ''
        note = ', '.join(filter(None, (sampled, sign)))
        tiles.append(Tile(f'sample_{i}', sample, note, not result.quantized, apart))
    return tiles


def result_case(
    result: AttentionResult,
    tiles: Iterable[Tile],
    folder: Path,
    outline: str,
    row: dict[str, Any],
) -> Case:
    """The page's part of a result; its pictures are written to the folder.

    Args:
        result: one image.
        tiles: tiles from ``result_tiles``.
        folder: existing folder beside the page, with ``prediction.png``.
        outline: SVG of the true objects, or ''.
        row: its numbers by name, None where not known, and whether it is right.
    """
    measures = {name: row[name] for name in MEASURES if row.get(name) is not None}
    if row['positions'] == 1:
        del measures['bits_per_position']
    sample, scores = result.prediction, []
    if 'pred_score' in sample:
        scores = top_scores(sample.pred_score.double().numpy(), result.outcome.true)
        # Whether the one class is right is the verdict.
        measures.pop('quality', None)
    placed = any(field in sample for field in PLACED)
    svg = 'image/svg+xml'
    return Case(
        name=result.name,
        photo=_stored(folder, 'image.jpg', image_jpeg(result.image), 'image/jpeg'),
        shape=result.image.shape,
        predicted=result.outcome.predicted,
        true=result.outcome.true,
        right=row['right'],
        tiles=[tile.picture(folder) for tile in tiles],
        drawn=_address(folder, 'prediction.png') if placed else '',
        outline=_stored(folder, 'truth.svg', outline.encode(), svg) if outline else '',
        scores=scores,
        measures=measures,
    )


def _stored(folder: Path | None, name: str, content: bytes, kind: str) -> str:
    """Address of the content: of a file written for it, or of itself."""
    if folder is None:
        return data_uri(kind, content)
    (folder / name).write_bytes(content)
    return _address(folder, name)


def _address(folder: Path, name: str) -> str:
    """Path from the page beside the folder; also of a name that is not UTF-8."""
    return quote(f'{folder.name}/{name}', errors='surrogateescape')
