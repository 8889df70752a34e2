"""The test side with one thing changed: other photographs, or another pen.

A model that was trained on the training side meets what it has not seen, in one respect
at a time.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from aib_mm.digitscenes.sources import Source, load_photos

#: Split of the shifted part -> side of the photographs that it shows.
SIDES = {'photographs': 'other', 'thick': 'test', 'thin': 'test'}

_ZOOM = 4  # a pixel of the frame while the pen is changed
_WINDOW = 5  # moves an edge by two of these smaller pixels, half a pixel of the frame


def load_shifted(test: Source) -> dict[str, Source]:
    """The source of each shifted split, made from that of the test side.

    Raises:
        SourceError: a package or a photograph is missing, or its content is another.
    """
    return {
        'photographs': Source(test.digits, load_photos(SIDES['photographs'])),
        'thick': Source(_map(thicken, test.digits), test.photos),
        'thin': Source(_map(thin, test.digits), test.photos),
    }


def thicken(digit: np.ndarray) -> np.ndarray:
    """The digit, ``(28, 28)`` uint8, its strokes half a pixel wider on each side."""
    return _redraw(digit, ImageFilter.MaxFilter(_WINDOW))


def thin(digit: np.ndarray) -> np.ndarray:
    """The digit, ``(28, 28)`` uint8, its strokes half a pixel narrower on each side."""
    return _redraw(digit, ImageFilter.MinFilter(_WINDOW))


def _redraw(digit: np.ndarray, edge: ImageFilter.RankFilter) -> np.ndarray:
    height, width = digit.shape
    large = Image.fromarray(digit).resize(
        (_ZOOM * width, _ZOOM * height), Image.Resampling.BILINEAR
    )
    small = large.filter(edge).resize((width, height), Image.Resampling.BOX)
    return np.asarray(small)


def _map(
    change: Callable[[np.ndarray], np.ndarray], digits: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    return tuple(np.stack([change(digit) for digit in of_class]) for of_class in digits)
