"""Colours, data URIs and numbers as the page and the files beside it show them."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aib_mm.interpret.draw.overlay import palette, palette_index
from aib_mm.interpret.result import Map, Pixels

#: Longest sides of maps and photographs on the page, pixels.
MAP_SIZE, PHOTO_SIZE = 256, 1024
#: Little compression: pictures of maps are small, and time is what is short.
PNG_LEVEL = 3
#: Significant digits of numbers that are read, not computed with.
DIGITS = 3

_OUTLINE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    'viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
    '<path d="{path}" fill="none" stroke="#fff" stroke-width="{stroke:.2f}" '
    'stroke-linecap="square"/><g fill="#fff" stroke="#000" stroke-width="{edge:.2f}" '
    'paint-order="stroke" font-family="sans-serif" font-weight="bold" '
    'font-size="{font:.2f}">{text}</g></svg>'
)


class Scale(NamedTuple):
    """Colours that maps of one unit share: their name, and matplotlib's for them.

    ``from_zero`` tells a scale that begins at 0 from one that begins at the least value
    shown.
    """

    meaning: str
    colors: str
    from_zero: bool = True


SCALES = {
    'attention': Scale('attention: mean, samples', 'viridis', from_zero=False),
    'std': Scale('attention: std', 'magma'),
    'bits': Scale('bits per position', 'cividis'),
}


def image_jpeg(image: Pixels, size: int = PHOTO_SIZE) -> bytes:
    """A JPEG of an RGB image ``(H, W, 3)``, made smaller if it exceeds ``size``."""
    picture = _picture(image)
    fitted = _fitted(image.shape, size)
    if fitted != picture.size:
        picture = picture.resize(fitted, Image.Resampling.LANCZOS)
    # Without subsampling, which shows where pixels of small images are enlarged.
    return _encoded(picture, 'JPEG', quality=90, subsampling=0)


def image_uri(image: Pixels) -> str:
    """A data URI of an RGB image ``(H, W, 3)``, as it is."""
    return data_uri('image/png', _encoded(_picture(image), 'PNG', optimize=True))


def map_png(values: Map) -> bytes:
    """A grey PNG of a map ``(h, w)``: black its least value, white its greatest."""
    ends = float(values.min()), float(values.max())
    picture = Image.fromarray(palette_index(values, ends))
    return _encoded(picture, 'PNG', compress_level=PNG_LEVEL)


def data_uri(kind: str, content: bytes) -> str:
    """A data URI of a file's content."""
    return f'data:{kind};base64,{base64.b64encode(content).decode("ascii")}'


def outline(labels: NDArray[np.bool_ | np.integer]) -> str:
    """SVG path data of the borders of all but 0 in ``(H, W)``, in units of pixels."""
    padded = np.pad(labels, 1)
    across = padded[1:, 1:-1] != padded[:-1, 1:-1]
    down = padded[1:-1, 1:] != padded[1:-1, :-1]
    edges = [f'M{x} {y}h1' for y, x in np.argwhere(across)]
    edges += [f'M{x} {y}v1' for y, x in np.argwhere(down)]
    return ''.join(edges)


def svg(shape: Sequence[int], path: str, text: str = '') -> str:
    """A drawing to be laid over an image of that shape.

    Args:
        shape: height and width.
        path: path data, drawn as a line.
        text: ``<text>`` elements.
    """
    side = max(shape[:2])
    return _OUTLINE.format(
        width=shape[1],
        height=shape[0],
        path=path,
        stroke=side / 140,
        edge=side / 160,
        font=side / 22,
        text=text,
    )


def outline_uri(mask: NDArray[np.bool_]) -> str:
    """A data URI of the border of a mask ``(H, W)``, to be laid over the image."""
    return data_uri('image/svg+xml', svg(mask.shape, outline(mask)).encode())


def color_table(name: str) -> str:
    """The 256 colours of one of matplotlib's colour maps, low to high, as hex."""
    return palette(name).tobytes().hex()


def shrink(values: Map, smooth: bool = True) -> Map:
    """A map of at most ``MAP_SIZE`` on a side."""
    width, height = _fitted(values.shape, MAP_SIZE)
    if (height, width) == values.shape:
        return values
    how = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize((width, height), how))


def number(value: float, digits: int = DIGITS) -> str:
    """Number in so many digits, or all before the point: 164,712, not 1.65e+05."""
    short = f'{value:.{digits}g}'
    return f'{value:,.0f}' if 10**digits <= abs(float(short)) < 1e9 else short


def range_ends(low: float, high: float, digits: int = 2) -> list[str]:
    """Both ends in a few digits; less than a thousandth of the other is 0."""
    least = max(abs(low), abs(high)) / 1000
    return [number(0.0 if abs(end) < least else end, digits) for end in (low, high)]


def _fitted(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Width and height of at most ``size`` in the proportions of ``shape``."""
    height, width = shape[:2]
    scale = min(1.0, size / max(height, width))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _picture(image: Pixels) -> Image.Image:
    if image.dtype != np.uint8 or image.shape[2:] != (3,):
        raise ValueError(
            f'image must be (H, W, 3) uint8, got {image.shape} {image.dtype}'
        )
    return Image.fromarray(image)


def _encoded(picture: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()
