"""Maps as colours, and images and numbers as the page and the files show them."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from mmengine.visualization import Visualizer
from numpy.typing import NDArray
from PIL import Image

from aib_mm.interpret.record.geometry import resize_map
from aib_mm.interpret.result import Map, Pixels

#: Longest sides of maps and photographs on the page, pixels.
MAP_SIZE, PHOTO_SIZE = 256, 1024
#: Little compression: pictures of maps are small, and time is what is short.
PNG_LEVEL = 3
#: Significant digits of numbers that are read, not computed with.
DIGITS = 3
BOX_COLOR = (255, 64, 64)

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
    'attention': Scale('attention: mean', 'viridis', from_zero=False),
    'samples': Scale('attention: samples', 'viridis', from_zero=False),
    'std': Scale('attention: std', 'magma'),
    'passed': Scale('bits that the map lets through', 'cividis'),
    'bits': Scale('bits per position of the latent', 'cividis'),
}


def overlay(
    image: NDArray[np.uint8],
    attention: NDArray[np.floating],
    *,
    value_range: tuple[float, float] | None = None,
    colors: str = 'viridis',
    opacity: float = 0.6,
    smooth: bool = True,
    boxes: NDArray[np.floating] | None = None,
) -> NDArray[np.uint8]:
    """Blend the colours of an attention map into an image.

    mmengine's ``Visualizer.draw_featmap`` stretches each map to the whole colour scale,
    so that neither weak and strong attention nor two models can be told apart; with a
    ``value_range`` pictures compare.

    Args:
        image: ``(H, W, 3)``, RGB.
        attention: ``(h, w)``, over the whole image (``map_on_image`` takes the padding
            of a network's input off).
        value_range: values at the two ends of the colour scale; others are clipped. By
            default the map's least and greatest.
        colors: name of a colour map of matplotlib.
        opacity: share of the colours, in [0, 1].
        smooth: passed to ``resize_map``; False shows a quantised map as it is.
        boxes: ``(n, 4)``, left, top, right, bottom, in pixels of the image.

    Returns:
        ``(H, W, 3)``, RGB.

    Raises:
        ValueError: another shape or type, an empty range, an impossible opacity.
    """
    _check(image)
    if attention.ndim != 2:
        raise ValueError(f'attention must be (h, w), got {attention.shape}')
    if not 0 <= opacity <= 1:
        raise ValueError(f'opacity must be in [0, 1], got {opacity!r}')
    maps = torch.from_numpy(np.asarray(attention, np.float32))[None, None]
    resized = resize_map(maps, image.shape[:2], smooth)[0].numpy()
    colored = colorize(resized, value_range, colors).astype(float)
    blended = opacity * colored + (1 - opacity) * image
    picture = np.round(blended).astype(np.uint8)
    return picture if boxes is None else draw_boxes(picture, boxes)


def colorize(
    values: NDArray[np.floating],
    value_range: tuple[float, float] | None = None,
    colors: str = 'viridis',
) -> NDArray[np.uint8]:
    """Colours ``(..., 3)`` of values ``(...)``; arguments as ``overlay``.

    A map that is constant gets the colour of the lower end.

    Raises:
        ValueError: an empty range.
    """
    if value_range is None:
        value_range = float(values.min()), float(values.max())
    elif not value_range[0] < value_range[1]:
        raise ValueError(f'value_range must be (low, high), got {value_range!r}')
    return palette(colors)[palette_index(values, value_range)]


def palette_index(
    values: NDArray[np.floating], ends: tuple[float, float]
) -> NDArray[np.uint8]:
    """Place of each value in ``palette``, clipped to the ends; 0 if they are equal."""
    low, high = ends
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.round(255 * scaled.clip(0, 1)).astype(np.uint8)


def palette(colors: str) -> NDArray[np.uint8]:
    """The 256 colours ``(256, 3)`` of one of matplotlib's colour maps, low to high."""
    table = matplotlib.colormaps[colors](np.arange(256))[:, :3]
    return np.round(table * 255).astype(np.uint8)


def draw_boxes(
    image: NDArray[np.uint8], boxes: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """The image with boxes ``(n, 4)``, drawn by mmengine's ``Visualizer``."""
    if not len(boxes):
        return image
    visualizer = Visualizer(image=image)
    visualizer.draw_bboxes(
        torch.as_tensor(boxes), edge_colors=BOX_COLOR, line_widths=1, alpha=1
    )
    return visualizer.get_image()


def image_jpeg(image: Pixels, size: int = PHOTO_SIZE) -> bytes:
    """A JPEG of an RGB image ``(H, W, 3)``, made smaller if it exceeds ``size``."""
    picture = _picture(image)
    picture.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=None)
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
    """Path data, drawn as a line, and ``<text>`` elements, over an image ``(H, W)``."""
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
    if max(values.shape) <= MAP_SIZE:
        return values
    how = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    picture.thumbnail((MAP_SIZE, MAP_SIZE), how, reducing_gap=None)
    return np.asarray(picture)


def number(value: float, digits: int = DIGITS) -> str:
    """Number in so many digits, or all before the point: 164,712, not 1.65e+05."""
    short = f'{value:.{digits}g}'
    return f'{value:,.0f}' if 10**digits <= abs(float(short)) < 1e9 else short


def range_ends(low: float, high: float, digits: int = 2) -> list[str]:
    """Both ends in a few digits; less than a thousandth of the other is 0."""
    least = max(abs(low), abs(high)) / 1000
    return [number(0.0 if abs(end) < least else end, digits) for end in (low, high)]


def _check(image: NDArray) -> None:
    if image.dtype != np.uint8 or image.shape[2:] != (3,):
        raise ValueError(
            f'image must be (H, W, 3) uint8, got {image.shape} {image.dtype}'
        )


def _picture(image: Pixels) -> Image.Image:
    _check(image)
    return Image.fromarray(image)


def _encoded(picture: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()
