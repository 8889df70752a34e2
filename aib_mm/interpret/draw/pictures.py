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

#: Longest side of the maps that the page embeds, pixels.
MAP_SIZE = 64

_OUTLINE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    'preserveAspectRatio="none"><path d="{path}" fill="none" stroke="#fff" '
    'stroke-width="{stroke:.2f}" stroke-linecap="square"/></svg>'
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


def image_uri(image: Pixels, size: int | None = None) -> str:
    """A data URI of an RGB image ``(H, W, 3)``: as it is, or a JPEG of ``size``."""
    if image.dtype != np.uint8 or image.shape[2:] != (3,):
        raise ValueError(
            f'image must be (H, W, 3) uint8, got {image.shape} {image.dtype}'
        )
    picture = Image.fromarray(image)
    if size is None:
        return _encoded(picture, 'PNG', optimize=True)
    fitted = _fitted(image.shape, size)
    if fitted != picture.size:
        picture = picture.resize(fitted, Image.Resampling.LANCZOS)
    return _encoded(picture, 'JPEG', quality=85)


def map_uri(values: Map, ends: tuple[float, float], colors: str) -> str:
    """A data URI of a map ``(h, w)``, coloured between two values, clipped there."""
    picture = Image.fromarray(palette_index(values, ends)).convert('P')
    picture.putpalette(palette(colors).tobytes())
    return _encoded(picture, 'PNG', optimize=True)


def outline(mask: NDArray[np.bool_]) -> str:
    """SVG path data of the border of a mask ``(H, W)``, in units of its pixels."""
    padded = np.pad(mask, 1)
    across = padded[1:, 1:-1] != padded[:-1, 1:-1]
    down = padded[1:-1, 1:] != padded[1:-1, :-1]
    edges = [f'M{x} {y}h1' for y, x in np.argwhere(across)]
    edges += [f'M{x} {y}v1' for y, x in np.argwhere(down)]
    return ''.join(edges)


def outline_uri(mask: NDArray[np.bool_]) -> str:
    """A data URI of that border, to be laid over the image."""
    height, width = mask.shape
    drawing = _OUTLINE.format(
        width=width, height=height, path=outline(mask), stroke=width / 80
    )
    return f'data:image/svg+xml;base64,{base64.b64encode(drawing.encode()).decode()}'


def gradient(colors: str, stops: int = 9) -> str:
    """CSS colours along a colour map, from low to high."""
    chosen = palette(colors)[np.linspace(0, 255, stops).round().astype(int)]
    return ', '.join('#{:02x}{:02x}{:02x}'.format(*rgb) for rgb in chosen)


def shrink(values: Map, smooth: bool = True) -> Map:
    """A map of at most ``MAP_SIZE`` on a side."""
    width, height = _fitted(values.shape, MAP_SIZE)
    if (height, width) == values.shape:
        return values
    how = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize((width, height), how))


def number(value: float, digits: int = 4) -> str:
    """Number in so many digits, or all before the point: 164,700, not 1.647e+05."""
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


def _encoded(picture: Image.Image, form: str, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    data = base64.b64encode(buffer.getvalue()).decode('ascii')
    return f'data:image/{form.lower()};base64,{data}'
