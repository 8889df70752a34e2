"""Edits of images: places, colours and patches, and frequencies by a slow DFT."""

import cmath
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aib_mm.interpret.measure.edits import (
    ColorBlock,
    Frequencies,
    Patch,
    generator_for,
    high_frequencies,
    low_frequencies,
    occlude_with_color,
    occlude_with_patch,
    squared_radius,
)


def numbers(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def image(channels: int = 3, height: int = 9, width: int = 7) -> Tensor:
    """Fractions of a half, which no edit draws."""
    return torch.randint(0, 255, (channels, height, width)) + 0.5


def changed_window(before: Tensor, after: Tensor) -> tuple[int, int, int, int]:
    """Top, left, height and width of what differs, which must be a whole rectangle."""
    changed = before != after
    assert torch.equal(changed, changed[:1].expand_as(changed))
    rows, columns = changed[0].any(dim=1).nonzero(), changed[0].any(dim=0).nonzero()
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    assert changed[0, top : top + height, left : left + width].all()
    return top, left, height, width


@given(st.integers(0, 10_000), st.integers(1, 7))
def test_a_color_block_is_one_square_of_one_color(seed: int, size: int) -> None:
    before = image()
    after = occlude_with_color(before, size, numbers(seed))
    top, left, height, width = changed_window(before, after)
    assert height == width == size
    block = after[:, top : top + size, left : left + size]
    assert torch.equal(block, block[:, :1, :1].expand_as(block))
    assert ((block >= 0) & (block <= 255) & (block == block.round())).all()


def test_every_place_and_every_value_is_drawn() -> None:
    before = torch.full((1, 4, 3), -1.0)
    generator = numbers()
    drawn = [occlude_with_color(before, 2, generator) for _ in range(4000)]
    places = {changed_window(before, after)[:2] for after in drawn}
    assert places == {(row, column) for row in range(3) for column in range(2)}
    values = {int(after.max()) for after in drawn}
    assert values == set(range(256))


def test_the_image_and_its_type_stay() -> None:
    before = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    copy = before.clone()
    source = [torch.randint(0, 256, (3, 9, 9), dtype=torch.uint8)]
    for after in (
        occlude_with_color(before, 4, numbers()),
        occlude_with_patch(before, 4, source, numbers()),
        occlude_with_patch(before, 4, source, numbers(), 'resize'),
    ):
        assert after.dtype == torch.uint8 and not torch.equal(after, before)
        assert torch.equal(before, copy)
    assert high_frequencies(before, 1).dtype == torch.float32


def test_a_patch_is_a_piece_of_one_source_image() -> None:
    before = torch.full((3, 8, 8), -1.0)
    source = [torch.rand(3, 6, 5) + number for number in range(4)]
    seen, generator = set(), numbers()
    for _ in range(200):
        after = occlude_with_patch(before, 4, source, generator)
        top, left, height, width = changed_window(before, after)
        assert (height, width) == (4, 4)
        patch = after[:, top : top + 4, left : left + 4]
        places = [
            (number, row, column)
            for number, other in enumerate(source)
            for row in range(3)
            for column in range(2)
            if torch.equal(other[:, row : row + 4, column : column + 4], patch)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 4 * 3 * 2


def test_a_whole_image_is_made_smaller() -> None:
    halves = torch.zeros(1, 8, 8)
    halves[:, :, 4:] = 200
    before = torch.full((1, 6, 6), -1.0)
    after = occlude_with_patch(before, 2, [halves], numbers(), 'resize')
    top, left, _, _ = changed_window(before, after)
    patch = after[0, top : top + 2, left : left + 2]
    # Each new pixel is the weighted mean of eight columns; the two add up to 200.
    assert patch[0, 0] < 50 and patch[0].sum().item() == pytest.approx(200, abs=1e-3)
    torch.testing.assert_close(patch[0], patch[1])


def slow_filter(values: Tensor, keep) -> Tensor:
    """Every coefficient and every pixel by its own sum, from the definition."""
    height, width = values.shape
    # As fftshift orders them.
    downs = [k - height // 2 for k in range(height)]
    acrosses = [k - width // 2 for k in range(width)]

    def wave(k: int, l: int, y: int, x: int) -> complex:  # noqa: E741
        return cmath.exp(2j * math.pi * (k * y / height + l * x / width))

    pixels = [(y, x) for y in range(height) for x in range(width)]
    out = torch.zeros(height, width, dtype=torch.complex128)
    for k in downs:
        for across in acrosses:
            if not keep(math.hypot(k, across)):
                continue
            coefficient = sum(
                values[y, x].item() * wave(k, across, y, x).conjugate()
                for y, x in pixels
            )
            for y, x in pixels:
                out[y, x] += coefficient * wave(k, across, y, x) / (height * width)
    assert out.imag.abs().max() < 1e-9
    return out.real


@pytest.mark.parametrize('size', [(6, 6), (7, 4), (5, 5)])
@pytest.mark.parametrize('radius', [0.0, 1.0, math.sqrt(2), 2.0, 2.5, 9.0])
def test_frequencies_equal_the_slow_transform(
    size: tuple[int, int], radius: float
) -> None:
    values = 255 * torch.rand(size, dtype=torch.float64)
    # sqrt(2) squared is not 2: neither there nor here is the ring exact.
    high = slow_filter(values, lambda r: r * r > radius**2)
    low = slow_filter(values, lambda r: r * r < radius**2)
    torch.testing.assert_close(high_frequencies(values, radius), high)
    torch.testing.assert_close(low_frequencies(values, radius), low)


def wave(cycles_down: int, cycles_across: int, size: int = 32) -> Tensor:
    """A cosine of whole cycles per image, around a mean of 100."""
    y, x = torch.meshgrid(*[torch.arange(size).double()] * 2, indexing='ij')
    phase = 2 * math.pi * (cycles_down * y + cycles_across * x) / size
    return (100 + 50 * phase.cos())[None]


@pytest.mark.parametrize(
    ('cycles', 'radius', 'in_high', 'in_low'),
    [
        ((4, 0), 4, False, False),  # on the boundary: in neither
        ((0, 4), 4, False, False),
        ((3, 4), 5, False, False),
        ((4, 1), 4, True, False),
        ((3, 3), 4, True, False),  # sqrt(18), in a square of side 4 but not in a circle
        ((2, 3), 4, False, True),
        ((11, 4), 12, False, True),
        ((9, 8), 12, True, False),
        ((16, 0), 12, True, False),  # the highest frequency of an even side
    ],
)
def test_the_boundaries_of_the_radius(cycles, radius, in_high, in_low) -> None:
    picture = wave(*cycles)
    detail = picture - picture.mean()
    nothing = torch.zeros_like(picture)
    high, low = high_frequencies(picture, radius), low_frequencies(picture, radius)
    torch.testing.assert_close(high, detail if in_high else nothing, atol=1e-9, rtol=0)
    expected = picture if in_low else nothing + picture.mean()
    torch.testing.assert_close(low, expected, atol=1e-9, rtol=0)


def test_radii_of_both_parities() -> None:
    assert squared_radius(1, 5).tolist() == [[0, 1, 4, 4, 1]]
    assert squared_radius(1, 4).tolist() == [[0, 1, 4, 1]]
    assert squared_radius(2, 3).tolist() == [[0, 1, 1], [1, 2, 2]]


def test_high_low_and_ring_add_up_to_the_image() -> None:
    picture = 255 * torch.rand(2, 3, 32, 32, dtype=torch.float64)
    ring = high_frequencies(picture, 3.99) - high_frequencies(picture, 4)
    parts = high_frequencies(picture, 4) + low_frequencies(picture, 4) + ring
    torch.testing.assert_close(parts, picture)
    torch.testing.assert_close(low_frequencies(picture, 23), picture)
    assert high_frequencies(picture, 4).mean(dim=(2, 3)).abs().max() < 1e-10


def test_values_are_clipped_only_when_asked_to() -> None:
    picture = torch.zeros(3, 32, 32)
    picture[:, :, 8:24] = 255  # low frequencies swing over at the edges
    for edit in (high_frequencies, low_frequencies):
        free = edit(picture, 4)
        assert free.min() < 0
        assert torch.equal(edit(picture, 4, clip=True), free.clamp(0, 255))


def test_random_numbers_belong_to_seed_edit_and_image() -> None:
    def drawn(*identity) -> list[float]:
        return generator_for(*identity).random(3).tolist()

    assert drawn(0, 'color p=4', 7) == drawn(0, 'color p=4', 7)
    others = [(1, 'color p=4', 7), (0, 'color p=8', 7), (0, 'color p=4', 8)]
    assert len({tuple(drawn(*other)) for other in others}) == 3
    assert drawn(0, 'color p=4', 7) not in [drawn(*other) for other in others]


def test_columns_of_the_table_do_what_the_functions_do() -> None:
    picture, source = image(3, 32, 32), [image(3, 40, 40)]
    pairs = {
        'color p=4': (ColorBlock(4), occlude_with_color(picture, 4, numbers())),
        'patch p=8': (
            Patch(8, source, 'resize'),
            occlude_with_patch(picture, 8, source, numbers(), 'resize'),
        ),
        'r > 4': (
            Frequencies(4.0, high=True, clip=True),
            high_frequencies(picture, 4, True),
        ),
        'r < 12': (Frequencies(12, high=False), low_frequencies(picture, 12)),
    }
    for name, (edit, expected) in pairs.items():
        assert edit.name == name
        assert torch.equal(edit(picture, numbers()), expected)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda g: occlude_with_color(image()[0], 2, g), r'\(C, H, W\), got \(9, 7\)'),
        (lambda g: occlude_with_color(image(), 8, g), r'8×8 .* of 9×7'),
        (lambda g: occlude_with_color(image(), 0, g), r'size must be .* got 0'),
        (lambda g: occlude_with_patch(image(), 2, [], g), r'at least one image'),
        (
            lambda g: occlude_with_patch(image(), 2, [image(1)], g),
            r'image 0 of the source must be \(3, h, w\).* got \(1, 9, 7\)',
        ),
        (
            lambda g: occlude_with_patch(image(), 4, [image(3, 3, 3)], g),
            r'4×4 pixels does not fit into an image of 3×3',
        ),
        (
            lambda g: occlude_with_patch(image(), 4, [image()], g, 'crob'),
            r"fit must be one of .* got 'crob'; did you mean 'crop'",
        ),
        (lambda g: high_frequencies(image(), -1), r'radius must be >= 0, got -1'),
        (lambda g: low_frequencies(image(), math.nan), r'radius must be >= 0, got nan'),
        (lambda g: generator_for(-1, 'x', 0), r'seed must be .* got -1'),
    ],
)
def test_what_cannot_be_edited_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(numbers())
