"""Attention drawn over the image it belongs to."""

import matplotlib
import numpy as np
import torch
from mmengine.visualization import Visualizer
from numpy.typing import NDArray

from aib_mm.interpret.record.geometry import resize_map

BOX_COLOR = (255, 64, 64)


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
    _check(image, attention, opacity)
    height, width = image.shape[:2]
    maps = torch.from_numpy(np.asarray(attention, np.float32))[None, None]
    resized = resize_map(maps, (height, width), smooth)[0].numpy()
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


def _check(
    image: NDArray[np.uint8], attention: NDArray[np.floating], opacity: float
) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f'image must be (H, W, 3) uint8, got {image.shape} {image.dtype}'
        )
    if attention.ndim != 2:
        raise ValueError(f'attention must be (h, w), got {attention.shape}')
    if not 0 <= opacity <= 1:
        raise ValueError(f'opacity must be in [0, 1], got {opacity!r}')
