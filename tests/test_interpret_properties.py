"""What holds of every image edit and of the consistency score: 200 examples each."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aib_mm.interpret.measure.consistency import (
    NORMALIZATIONS,
    consistency_area,
    consistency_curve,
    map_similarity,
)
from aib_mm.interpret.measure.edits import (
    high_frequencies,
    low_frequencies,
    occlude_with_color,
    occlude_with_patch,
    squared_radius,
)
from aib_mm.interpret.ties import SCORE_ROUNDING

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
sides = st.integers(1, 12)


@st.composite
def images(draw: Any) -> torch.Tensor:
    """``(C, H, W)`` in [0, 255], whole numbers as files have them."""
    shape = draw(st.integers(1, 3)), draw(sides), draw(sides)
    generator = torch.Generator().manual_seed(draw(seeds))
    return torch.randint(0, 256, shape, generator=generator).float()


@st.composite
def pairs_of_maps(draw: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two maps for each of some samples, constant ones among them."""
    shape = draw(st.integers(1, 4)), draw(sides), draw(sides)
    generator = torch.Generator().manual_seed(draw(seeds))
    maps = torch.randn(2, *shape, generator=generator)
    maps[:, :: draw(st.integers(1, 5))] *= draw(st.sampled_from([0.0, 1.0, 1e3]))
    return maps[0], maps[1]


@EXAMPLES
@given(image=images(), size=st.integers(1, 12), seed=seeds, patch=st.booleans())
def test_an_occlusion_changes_one_square(
    image: torch.Tensor, size: int, seed: int, patch: bool
) -> None:
    assume(size <= min(image.shape[1:]))
    # Below zero is no colour: every pixel of the square shows.
    before = image - 1000
    generator = np.random.default_rng(seed)
    if patch:
        after = occlude_with_patch(before, size, [image], generator)
    else:
        after = occlude_with_color(before, size, generator)
    rows, columns = (after != before).any(dim=0).nonzero(as_tuple=True)
    assert len(rows) == size**2
    assert rows.max() - rows.min() == columns.max() - columns.min() == size - 1
    square = after[:, rows, columns]
    assert square.min() >= 0 and square.max() <= 255
    if not patch:
        assert (square == square[:, :1]).all(), 'one colour'
    assert (before == image - 1000).all(), 'the image given is left alone'


@EXAMPLES
@given(image=images(), radius=st.integers(0, 9) | st.floats(0, 9))
def test_low_and_high_frequencies_and_the_circle_are_the_image(
    image: torch.Tensor, radius: float
) -> None:
    image = image.double()
    height, width = image.shape[1:]
    low, high = low_frequencies(image, radius), high_frequencies(image, radius)
    on_the_circle = squared_radius(height, width) == radius**2
    rest = torch.fft.ifft2(torch.fft.fft2(image) * on_the_circle).real
    torch.testing.assert_close(low + high + rest, image, atol=1e-9, rtol=0)
    assert high.mean(dim=(1, 2)).abs().max() < 1e-9, 'the mean is lost'
    energy = sum(part.square().sum() for part in (low, high, rest))
    torch.testing.assert_close(energy, image.square().sum(), rtol=1e-9, atol=1e-6)
    again = low_frequencies(low, radius)
    torch.testing.assert_close(again, low, atol=1e-9, rtol=0)


@EXAMPLES
@given(
    maps=pairs_of_maps(),
    how=st.sampled_from(NORMALIZATIONS),
    scale=st.floats(0.01, 100),
    shift=st.floats(-10, 10),
)
def test_similarity_is_a_cosine_that_ignores_what_is_normalised_away(
    maps: tuple[torch.Tensor, torch.Tensor], how: str, scale: float, shift: float
) -> None:
    a, b = (each.double() for each in maps)
    similarity = map_similarity(a, b, how)
    assert similarity.shape == a.shape[:1]
    assert (similarity >= (0 if how == 'minmax' else -1)).all()
    assert (similarity <= 1).all()
    torch.testing.assert_close(map_similarity(b, a, how), similarity)
    same = map_similarity(a, a, how)
    torch.testing.assert_close(same, torch.ones_like(same))
    other = b * scale if how == 'none' else b * scale + shift
    torch.testing.assert_close(
        map_similarity(a, other, how), similarity, atol=1e-6, rtol=0
    )


@EXAMPLES
@given(
    values=st.lists(
        st.tuples(st.floats(-1, 1), st.booleans()), min_size=1, max_size=12
    ),
    steps=st.integers(2, 50),
)
def test_the_curve_falls_and_its_area_is_the_mean_similarity(
    values: list[tuple[float, bool]], steps: int
) -> None:
    assume(any(same for _, same in values))
    similarity = torch.tensor([value for value, _ in values], dtype=torch.float64)
    same = torch.tensor([same for _, same in values])
    # What misses a threshold by rounding reaches it.
    thresholds = [-1.0, *(step / steps + SCORE_ROUNDING for step in range(steps + 1))]
    curve = consistency_curve(similarity, same, thresholds)
    assert curve[0] == 1
    assert all(0 <= low <= high for high, low in pairwise(curve))
    area = consistency_area(similarity, same)
    kept = [max(value, 0) for value, same in values if same]
    assert area == pytest.approx(sum(kept) / len(kept), abs=1e-12)
    # Riemann sums from either side enclose the area under the curve.
    assert sum(curve[2:]) / steps - 1e-9 <= area <= sum(curve[1:-1]) / steps + 1e-9
