"""The interpretability score on hand-made maps, its curve, its area, its limits."""

import math

import pytest
import torch
from torch import Tensor

from aib_mm.interpret.measure.consistency import (
    consistency_area,
    consistency_curve,
    consistency_score,
    map_similarity,
    normalize_maps,
)


def maps(*rows: list[float]) -> Tensor:
    """One 2×2 map a row."""
    return torch.tensor(rows).view(-1, 1, 2, 2)


def test_normalised_maps_of_a_hand() -> None:
    one = maps([1.0, 3.0, 2.0, 5.0])
    assert normalize_maps(one).tolist() == [[0, 0.5, 0.25, 1]]
    assert normalize_maps(one, 'none').tolist() == [[1, 3, 2, 5]]
    # Mean 2.75, squares of the deviations add up to 8.75.
    expected = [value / math.sqrt(8.75) for value in (-1.75, 0.25, -0.75, 2.25)]
    assert normalize_maps(one, 'standard')[0].tolist() == pytest.approx(expected)


def test_similarities_of_a_hand() -> None:
    a, b = maps([0.0, 1.0, 0.0, 0.0]), maps([0.0, 1.0, 1.0, 0.0])
    assert map_similarity(a, b).item() == pytest.approx(1 / math.sqrt(2))
    # Of the raw maps, and of their deviations (1/4 off, 1/2 off).
    c = maps([1.0, 2.0, 1.0, 1.0])
    assert map_similarity(c, b, 'none').item() == pytest.approx(3 / math.sqrt(14))
    assert map_similarity(a, b, 'standard').item() == pytest.approx(1 / math.sqrt(3))
    opposite = maps([1.0, 0.0, 0.0, 1.0])
    assert map_similarity(b, opposite).item() == 0
    assert map_similarity(b, opposite, 'standard').item() == pytest.approx(-1)


@pytest.mark.parametrize('how', ['minmax', 'standard'])
def test_scale_and_offset_are_of_no_account(how: str) -> None:
    a, b = torch.rand(5, 1, 4, 4), torch.rand(5, 1, 4, 4)
    expected = map_similarity(a, b, how)
    # A softmax over many positions: small values, but not a constant map.
    torch.testing.assert_close(map_similarity(a * 1e-5, 3 * b + 2, how), expected)
    torch.testing.assert_close(map_similarity(b, a, how), expected)
    torch.testing.assert_close(map_similarity(a, a, how), torch.ones(5).double())


@pytest.mark.parametrize('how', ['minmax', 'standard'])
def test_constant_maps_are_like_each_other_only(how: str) -> None:
    constant = maps([0.1] * 4, [0.0] * 4, [0.3] * 4, [1.0, 0.0, 0.0, 0.0])
    others = maps([0.7] * 4, [0.2] * 4, [1.0, 0.0, 0.0, 0.0], [-0.5] * 4)
    assert map_similarity(constant, others, how).tolist() == [1, 1, 0, 0]
    # Constant but for the rounding of float32; and just not constant.
    rounded = maps([0.1, 0.1, 0.1, 0.1 + 1e-8])
    assert normalize_maps(rounded, how).tolist() == [[0, 0, 0, 0]]
    assert normalize_maps(maps([0.1, 0.1, 0.1, 0.1001]), how).abs().max() > 0.5


def test_raw_maps_of_zeros_have_no_direction() -> None:
    zeros = torch.zeros(2, 1, 2, 2)
    others = maps([0.0] * 4, [1.0] * 4)
    assert map_similarity(zeros, others, 'none').tolist() == [1, 0]
    assert map_similarity(others[1:], others[1:] * 3, 'none').item() == pytest.approx(1)


SIMILARITY = torch.tensor([0.95, 0.9, 0.5, 0.99, -0.5], dtype=torch.float64)
SAME = torch.tensor([True, True, True, False, True])


def test_the_score_is_a_share_of_the_consistent_predictions() -> None:
    # Of four samples that count, two reach 0.9 (one exactly) and three 0.5.
    assert consistency_score(SIMILARITY, SAME, 0.9) == 0.5
    assert consistency_score(SIMILARITY, SAME, 0.5) == 0.75
    assert consistency_curve(SIMILARITY, SAME, [-1, 0, 0.96, 1]) == [1, 0.75, 0, 0]


def test_the_area_is_the_integral_of_the_curve() -> None:
    assert consistency_area(SIMILARITY, SAME) == pytest.approx((0.95 + 0.9 + 0.5) / 4)
    similarity = torch.rand(200, dtype=torch.float64) * 1.4 - 0.4
    same = torch.rand(200) > 0.3
    steps = [(step + 0.5) / 20_000 for step in range(20_000)]
    curve = consistency_curve(similarity, same, steps)
    area = consistency_area(similarity, same)
    assert area == pytest.approx(sum(curve) / len(curve), abs=1e-4)


def test_limits_of_the_score() -> None:
    everything = torch.ones(5, dtype=torch.bool)
    assert consistency_area(torch.ones(5), everything) == 1
    assert consistency_score(torch.zeros(5), everything, 0.1) == 0
    assert math.isnan(consistency_score(SIMILARITY, ~everything, 0.9))
    assert math.isnan(consistency_area(SIMILARITY, ~everything))


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: map_similarity(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 8, 8)),
            r'one size, got \(2, 1, 4, 4\) and \(2, 1, 8, 8\)',
        ),
        (
            lambda: normalize_maps(torch.rand(2, 4), 'min-max'),
            r"how must be one of .* got 'min-max'; did you mean 'minmax'",
        ),
        (
            lambda: consistency_score(SIMILARITY, SAME[:3], 0.9),
            r'both be \(N,\), got \(5,\) and \(3,\)',
        ),
        (
            lambda: consistency_area(SIMILARITY, SAME.float()),
            r'same_prediction must be bool, got torch\.float32',
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
