"""Draws one sample from one side's digits and photographs.

Pillow resamples and integers blend, so that the pixels do not depend on the processor.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from aib_mm.digitscenes.sources import Source
from aib_mm.digitscenes.spec import DigitScenesSpec

_FRAME = 28  # side of an MNIST image
_PLACEMENTS = 50  # tries to find a digit's place among the others
_COLOURS = 32  # tries to find a colour with enough contrast

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom excluded


@dataclass(frozen=True)
class Classification:
    """``image`` ``(S, S, 3)`` and ``mask`` ``(S, S)``, 255 on the digit; uint8."""

    image: np.ndarray
    mask: np.ndarray
    label: int


@dataclass(frozen=True)
class Scene:
    """``image`` ``(S, S, 3)`` uint8; per digit its label and its visible pixels
    ``(S, S)`` bool; ``edges`` ``(S, S)`` bool, the digits' blurred edges."""

    image: np.ndarray
    labels: tuple[int, ...]
    masks: tuple[np.ndarray, ...]
    edges: np.ndarray


def draw_classification(
    source: Source, spec: DigitScenesSpec, index: int, rng: np.random.Generator
) -> Classification:
    """One digit in front of strokes of other digits, on a crop of a photograph.

    Labels take turns with ``index``, and so do the digits of a class.
    """
    label = index % 10
    digits = source.digits[label]
    canvas = _crop_photo(source, spec.size, spec.photo_zoom, rng)
    unit = spec.size / 32
    for _ in range(_draw(rng, spec.distractors)):
        _draw_distractor(
            canvas, source, spec, rng, spec.digit_size, spec.distractor_size, unit
        )
    glyph = _glyph(
        digits[index // 10 % len(digits)], spec, rng, spec.digit_size, unit, spec.size
    )
    box = _place(glyph.shape, spec.size, rng)
    _paint(canvas, glyph, box, rng, spec.min_contrast)
    mask = np.zeros((spec.size, spec.size), np.uint8)
    mask[_window(box)] = _ink(glyph, spec.mask_threshold) * np.uint8(255)
    return Classification(canvas.astype(np.uint8), mask, label)


def draw_scene(
    source: Source, spec: DigitScenesSpec, rng: np.random.Generator
) -> Scene:
    """Several digits of various sizes among strokes of others, on a photograph.

    A digit that finds no place, or is covered by the others, is left out.
    """
    side, unit = spec.scene_size, spec.scene_size / 256
    canvas = _crop_photo(source, side, spec.photo_zoom, rng)
    for _ in range(_draw(rng, spec.scene_distractors)):
        _draw_distractor(
            canvas,
            source,
            spec,
            rng,
            spec.scene_digit_size,
            spec.scene_distractor_size,
            unit,
        )
    labels: list[int] = []
    masks: list[np.ndarray] = []
    boxes: list[Box] = []
    edges = np.zeros((side, side), bool)
    for _ in range(_draw(rng, spec.scene_digits)):
        label, digit = _any_digit(source, rng)
        glyph = _glyph(digit, spec, rng, spec.scene_digit_size, unit, side)
        box = _place_beside(boxes, glyph.shape, side, spec.max_overlap, rng)
        if box is None:
            continue
        _paint(canvas, glyph, box, rng, spec.min_contrast)
        ink = np.zeros((side, side), bool)
        ink[_window(box)] = _ink(glyph, spec.mask_threshold)
        masks = [behind & ~ink for behind in masks]
        edges[_window(box)] |= _ink(glyph, spec.edge_threshold)
        labels, masks, boxes = [*labels, label], [*masks, ink], [*boxes, box]
    for mask in masks:
        edges &= ~mask
    seen = [index for index, mask in enumerate(masks) if mask.any()]
    return Scene(
        canvas.astype(np.uint8),
        tuple(labels[index] for index in seen),
        tuple(masks[index] for index in seen),
        edges,
    )


def _crop_photo(
    source: Source, side: int, zoom: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """A random crop of a random photograph, ``(side, side, 3)`` int32."""
    photo = source.photos[rng.integers(len(source.photos))]
    crop = min(round(side * rng.uniform(*zoom)), *photo.size)
    left = int(rng.integers(photo.width - crop + 1))
    top = int(rng.integers(photo.height - crop + 1))
    resized = photo.resize(
        (side, side),
        Image.Resampling.BILINEAR,
        box=(left, top, left + crop, top + crop),
    )
    return np.array(resized, np.int32)


def _glyph(
    digit: np.ndarray,
    spec: DigitScenesSpec,
    rng: np.random.Generator,
    size: tuple[int, int],
    unit: float,
    limit: int,
) -> np.ndarray:
    """The digit's ink, resized, turned and sheared, without empty borders, uint8."""
    frame = rng.uniform(*size) * unit
    angle = math.radians(rng.uniform(-spec.rotation, spec.rotation))
    shear = rng.uniform(-spec.shear, spec.shear)
    side = min(math.ceil(frame * 1.5), limit)
    # Rows of the map from a drawn pixel to the one of the frame that it shows.
    scale = _FRAME / frame
    a, b = scale * math.cos(angle), scale * (math.sin(angle) + shear)
    d, e = -scale * math.sin(angle), scale * math.cos(angle)
    centre, middle = _FRAME / 2, side / 2
    rows = (a, b, centre - (a + b) * middle, d, e, centre - (d + e) * middle)
    drawn = Image.fromarray(digit).transform(
        (side, side), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR
    )
    return np.asarray(drawn.crop(drawn.getbbox()))


def _draw_distractor(
    canvas: np.ndarray,
    source: Source,
    spec: DigitScenesSpec,
    rng: np.random.Generator,
    digit_size: tuple[int, int],
    size: tuple[int, int],
    unit: float,
) -> None:
    """Paint a square window of another digit's handwriting, centred on its ink."""
    _, digit = _any_digit(source, rng)
    glyph = _glyph(digit, spec, rng, digit_size, unit, len(canvas))
    side = round(rng.uniform(*size) * unit)
    rows, columns = np.nonzero(_ink(glyph, spec.mask_threshold))
    pick = rng.integers(len(rows))
    top = max(int(rows[pick]) - side // 2, 0)
    left = max(int(columns[pick]) - side // 2, 0)
    stroke = glyph[top : top + side, left : left + side]
    box = _place(stroke.shape, len(canvas), rng)
    _paint(canvas, stroke, box, rng, spec.min_contrast)


def _paint(
    canvas: np.ndarray,
    ink: np.ndarray,
    box: Box,
    rng: np.random.Generator,
    min_contrast: float,
) -> None:
    """Blend a random colour, far enough from what is behind, into the canvas."""
    weight = ink.astype(np.int32)[..., None]
    behind = canvas[_window(box)]
    mean = (behind * weight).sum((0, 1)) // max(int(weight.sum()), 1)
    colours = rng.integers(0, 256, (_COLOURS, 3), np.int32)
    distances = ((colours - mean) ** 2).sum(1)
    enough = distances >= min_contrast**2
    colour = colours[np.argmax(enough) if enough.any() else np.argmax(distances)]
    canvas[_window(box)] = (behind * (255 - weight) + colour * weight + 127) // 255


def _any_digit(source: Source, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    label = int(rng.integers(10))
    digits = source.digits[label]
    return label, digits[rng.integers(len(digits))]


def _place(shape: tuple[int, ...], side: int, rng: np.random.Generator) -> Box:
    """A random place inside the image."""
    height, width = shape
    left = int(rng.integers(side - width + 1))
    top = int(rng.integers(side - height + 1))
    return left, top, left + width, top + height


def _place_beside(
    boxes: list[Box],
    shape: tuple[int, ...],
    side: int,
    max_overlap: float,
    rng: np.random.Generator,
) -> Box | None:
    """A place whose overlap with each box is allowed, None if none was found."""
    for _ in range(_PLACEMENTS):
        box = _place(shape, side, rng)
        if all(_overlap(box, other) <= max_overlap for other in boxes):
            return box
    return None


def _overlap(a: Box, b: Box) -> float:
    """Share of the smaller box that the other one covers."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return max(width, 0) * max(height, 0) / smaller


def _window(box: Box) -> tuple[slice, slice]:
    left, top, right, bottom = box
    return slice(top, bottom), slice(left, right)


def _ink(glyph: np.ndarray, threshold: float) -> np.ndarray:
    """Mask of the ink that reaches the threshold, or of the most ink if none does."""
    return glyph >= min(threshold * 255, glyph.max())


def _draw(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    """An integer of an inclusive range."""
    return int(rng.integers(bounds[0], bounds[1] + 1))
