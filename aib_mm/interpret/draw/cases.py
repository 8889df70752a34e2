"""One image and what a model made of it, as the page and the files show it.

A new kind of map is a row of ``KINDS`` and a tile, a new number a row of ``MEASURES``
and a value.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from aib_mm.errors import choose
from aib_mm.interpret.draw.pictures import SCALES, image_uri, shrink
from aib_mm.interpret.result import AttentionResult, Map, Pixels
from aib_mm.utils.tables import Column

#: Longest sides of what the page embeds, pixels.
PHOTO_SIZE, DRAWN_SIZE = 160, 256

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
    'mean': Kind('mean', 'Mean of the attention', 'attention', over=True),
    'std': Kind('std', 'Standard deviation of the attention', 'std', over=True),
    'quantized': Kind(
        'quantised', 'A sample of the attention, quantised', 'attention', over=True
    ),
    'bits': Kind('bits', 'Bits per position', 'bits'),
    'sample': Kind('sample', 'A sample of the attention', 'attention'),
}

#: Numbers that images can be sorted by: what they are called and what they are.
MEASURES = {
    'quality': Column(
        'quality',
        'of the prediction, in [0, 1]: class right or not; F1 of the boxes at IoU 0.5; '
        'mean IoU over the classes of the image',
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

    Raises:
        ValueError: another kind, or values of another shape.
    """

    name: str
    values: Map
    note: str = ''
    smooth: bool = True

    def __post_init__(self) -> None:
        choose('kind of map', self.name.partition('_')[0], KINDS)
        if self.values.ndim != 2:
            raise ValueError(f'{self.name} must be (h, w), got {self.values.shape}')

    @property
    def kind(self) -> Kind:
        """Kind of the map."""
        return KINDS[self.name.partition('_')[0]]


@dataclass(frozen=True)
class Case:
    """One image and what one model made of it, ready for the page.

    Attributes:
        name: identifies the image, the same for every model.
        photo: data URI of the image.
        shape: its height and width, of which the proportions count.
        predicted: classes, the surest or largest first.
        true: the classes that are there, None where unknown.
        right: whether the prediction is right, None where unknown.
        tiles: its maps, in the order shown.
        drawn: data URI of the image with its prediction, or ''.
        outline: data URI of the object's border, or ''.
        scores: the highest ones with their classes, in [0, 1].
        measures: numbers by their names in ``MEASURES``, and others as text.
    """

    name: str
    photo: str
    shape: tuple[int, ...]
    predicted: Sequence[int]
    true: Sequence[int] | None
    right: bool | None
    tiles: Sequence[Tile] = ()
    drawn: str = ''
    outline: str = ''
    scores: Sequence[tuple[int, float]] = ()
    measures: Mapping[str, float | str] = field(default_factory=dict)


def tile_ranges(
    tiles: Iterable[Tile], value_range: Range | None = None
) -> dict[str, Range]:
    """Values at the ends of each scale that some of the tiles have.

    Args:
        tiles: tiles in any order.
        value_range: ends for the attention; by default its least and greatest value.
    """
    ranges: dict[str, Range] = {}
    for tile in tiles:
        scale = tile.kind.scale
        high = float(tile.values.max())
        low = 0.0 if SCALES[scale].from_zero else float(tile.values.min())
        least, greatest = ranges.get(scale, (low, high))
        ranges[scale] = min(low, least), max(high, greatest)
    if value_range is not None and 'attention' in ranges:
        ranges['attention'] = value_range
    return ranges


def result_tiles(result: AttentionResult) -> list[Tile]:
    """All maps of an image, as large as it is."""
    tiles = [Tile('mean', result.attention_mean), Tile('std', result.attention_std)]
    if result.quantized:
        tiles.append(Tile('quantized', result.samples[0], smooth=False))
    if result.information is not None and result.information.map is not None:
        tiles.append(Tile('bits', result.information.map))
    for i, sample in enumerate(result.samples, 1):
        tiles.append(Tile(f'sample_{i}', sample, smooth=not result.quantized))
    return tiles


def result_case(
    result: AttentionResult, tiles: Iterable[Tile], drawn: Pixels, row: dict[str, Any]
) -> Case:
    """The page's part of a result, small.

    Args:
        result: one image.
        tiles: tiles from ``result_tiles``.
        drawn: the image with its prediction.
        row: its numbers by name, None where not known, and whether it is right.
    """
    measures = {name: row[name] for name in MEASURES if row.get(name) is not None}
    if row['positions'] == 1:
        del measures['bits_per_position']
    return Case(
        name=result.name,
        photo=image_uri(result.image, PHOTO_SIZE),
        shape=result.image.shape,
        predicted=result.outcome.predicted,
        true=result.outcome.true,
        right=row['right'],
        tiles=[replace(t, values=shrink(t.values, t.smooth)) for t in tiles],
        drawn=image_uri(drawn, DRAWN_SIZE),
        measures=measures,
    )
