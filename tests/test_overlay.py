"""Attention drawn over images."""

import matplotlib
import numpy as np
import pytest

from aib_mm.interpret import colorize, draw_boxes, overlay

GREY = np.full((4, 6, 3), 100, np.uint8)


def color(value: float, name: str = 'viridis') -> np.ndarray:
    """One of matplotlib's colours, 0 to 255."""
    return np.round(255 * np.array(matplotlib.colormaps[name](value)[:3]))


def test_colours_run_from_the_least_to_the_greatest() -> None:
    values = np.array([[2.0, 4.0], [3.0, 2.0]])
    colors = colorize(values, colors='magma')
    assert colors.shape == (2, 2, 3) and colors.dtype == np.uint8
    assert colors[0, 0].tolist() == color(0.0, 'magma').tolist()
    assert colors[0, 1].tolist() == color(1.0, 'magma').tolist()
    assert colors[1, 0].tolist() == color(128 / 255, 'magma').tolist()


def test_a_fixed_range_makes_pictures_compare() -> None:
    weak, strong = np.array([[0.0, 0.25]]), np.array([[0.0, 1.0]])
    assert np.array_equal(colorize(weak), colorize(strong))
    fixed = colorize(weak, (0.0, 1.0))
    assert fixed[0, 1].tolist() == color(64 / 255).tolist()
    outside = colorize(np.array([-3.0, 7.0]), (0.0, 1.0))
    assert outside.tolist() == [color(0.0).tolist(), color(1.0).tolist()]


def test_a_constant_map_has_the_lowest_colour() -> None:
    assert (colorize(np.full((2, 2), 0.7)) == color(0.0)).all()


@pytest.mark.parametrize('opacity', [0.0, 0.25, 1.0])
def test_colours_are_blended_into_the_image(opacity: float) -> None:
    picture = overlay(GREY, np.zeros((2, 3)), opacity=opacity)
    assert picture.shape == GREY.shape and picture.dtype == np.uint8
    assert (picture == np.round(opacity * color(0.0) + (1 - opacity) * 100)).all()


def test_maps_are_resized_to_the_image_smoothly_or_not() -> None:
    attention = np.array([[0.0, 1.0, 0.0]])
    sharp = overlay(GREY, attention, opacity=1, smooth=False)
    assert (sharp[:, 2:4] == color(1.0)).all() and (sharp[:, 4:] == color(0.0)).all()
    smooth = overlay(GREY, attention, value_range=(0.0, 1.0), opacity=1)
    # Pixel 1 has its centre three quarters of a position from the first centre.
    assert smooth[0, 1].tolist() == color(round(255 * 0.25) / 255).tolist()
    assert len(np.unique(smooth[0], axis=0)) == 3


def test_boxes_are_drawn_where_they_are() -> None:
    image = np.full((40, 60, 3), 100, np.uint8)
    boxes = np.array([[10.0, 5.0, 50.0, 30.0]])
    drawn = draw_boxes(image, boxes)
    assert drawn.shape == image.shape
    rows, columns = (drawn != image).any(axis=2).nonzero()
    found = [columns.min(), rows.min(), columns.max(), rows.max()]
    assert np.abs(np.array(found) - boxes[0]).max() <= 2
    assert np.array_equal(drawn[12:24, 20:40], image[12:24, 20:40])
    assert draw_boxes(image, np.empty((0, 4))) is image
    assert (overlay(image, np.zeros((2, 3)), opacity=0, boxes=boxes) == drawn).all()


def test_what_cannot_be_drawn_is_named() -> None:
    with pytest.raises(ValueError, match=r'image must be .* got \(4, 6\) uint8'):
        overlay(GREY[..., 0], np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r'image must be .* float64'):
        overlay(GREY / 255, np.zeros((2, 2)))
    with pytest.raises(
        ValueError, match=r'attention must be \(h, w\), got \(1, 2, 2\)'
    ):
        overlay(GREY, np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match=r'opacity must be in \[0, 1\], got 2'):
        overlay(GREY, np.zeros((2, 2)), opacity=2)
    with pytest.raises(ValueError, match=r'value_range must be \(low, high\)'):
        overlay(GREY, np.zeros((2, 2)), value_range=(1.0, 1.0))
