"""Rounding decides nothing: ties by hand and by loops, all measures under noise."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from aib_mm.interpret import (
    attention_energy,
    attention_iou,
    consistency_score,
    deletion_curve,
    insertion_curve,
    map_similarity,
    pointing_game,
    resize_map,
)
from aib_mm.interpret.measure.uncertainty import (
    error_detection_auroc,
    expected_calibration_error,
)
from aib_mm.interpret.ties import rounding_of, tie_ranks

SIDE = 32
#: Of its largest magnitude, what the maps of trained networks were seen to differ by
#: between instruction sets and batch sizes.
NOISE = 1e-6


def ranks(values: list[float], tolerance: float) -> list[int]:
    row = torch.tensor([values], dtype=torch.float64)
    return tie_ranks(row, torch.tensor([[tolerance]]))[0].tolist()


def test_ties_of_a_hand() -> None:
    assert ranks([0.1, 0.9, 0.5, 0.9], 0.0) == [2, 0, 1, 0]
    assert ranks([3.0, 2.9, 1.0, 1.2], 0.25) == [0, 0, 1, 1]
    # One slope of gaps below the tolerance: cells around 0, 1, 2.
    assert ranks([0.0, 0.4, 0.8, 1.2, 1.6, 2.0], 1.0) == [2, 2, 1, 1, 0, 0]
    # As long as the tolerance it is one tie, wherever it lies in the grid.
    assert ranks([0.1, 0.5, 0.9], 0.8) == [0, 0, 0]
    assert ranks([0.0, 0.0, 0.0], 0.0) == [0, 0, 0]
    assert ranks([-1.0, -3.0, -2.0], 0.0) == [0, 2, 1]


def slow_ranks(values: list[float], tolerance: float) -> list[int]:
    """By sets that grow one value at a time."""
    slopes: list[list[float]] = []
    for value in sorted(values, reverse=True):
        if slopes and slopes[-1][-1] - value <= tolerance:
            slopes[-1].append(value)
        else:
            slopes.append([value])
    ties: list[set[float]] = []
    for slope in slopes:
        if slope[0] - slope[-1] <= tolerance:
            ties.append(set(slope))
            continue
        cells: dict[int, set[float]] = {}
        for value in slope:
            cells.setdefault(round(value / tolerance), set()).add(value)
        ties += cells.values()
    return [next(i for i, tie in enumerate(ties) if v in tie) for v in values]


@pytest.mark.parametrize('tolerance', [1e-6, 0.003, 0.01, 0.2])
def test_ties_equal_the_loop(tolerance: float) -> None:
    values = torch.rand(4, 150, dtype=torch.float64)
    found = tie_ranks(values, torch.full((4, 1), tolerance))
    assert found.tolist() == [slow_ranks(row, tolerance) for row in values.tolist()]


def test_rows_have_tolerances_of_their_own() -> None:
    values = torch.tensor([[1.0, 0.95], [100.0, 100.0005], [-1e-9, -2e-9]])
    assert tie_ranks(values, rounding_of(values)).tolist() == [[0, 1], [0, 0], [0, 1]]


def test_what_is_no_number_ties_with_nothing() -> None:
    values = torch.tensor([[torch.nan, 1.0, torch.nan]])
    assert sorted(tie_ranks(values, rounding_of(values))[0].tolist()) == [0, 1, 2]


def anchors() -> Tensor:
    """Twenty values, eight by eight of them."""
    values = torch.linspace(0.02, 0.97, 20)
    return values[torch.arange(64).mul(7).remainder(20)].view(1, 1, 8, 8)


def sigmoid_of_steps() -> Tensor:
    """Saturated at both ends, with some positions between."""
    steps = torch.arange(64).mul(37).remainder(8).sub(4).mul(12.0)
    return resize_map(steps.view(1, 1, 8, 8), (SIDE, SIDE)).sigmoid()


#: Maps ``(1, 32, 32)`` with many positions of nearly one value.
MAPS: dict[str, Callable[[], Tensor]] = {
    'constant': lambda: torch.full((1, SIDE, SIDE), 0.37),
    'two values': lambda: torch.arange(SIDE**2).view(1, SIDE, SIDE) % 3 / 4 + 0.1,
    'negative': lambda: -(torch.arange(SIDE**2).view(1, SIDE, SIDE) % 5 + 1) / 700,
    'anchors': lambda: resize_map(anchors(), (SIDE, SIDE), smooth=False),
    'smoothed anchors': lambda: resize_map(anchors(), (SIDE, SIDE)),
    'saturated': sigmoid_of_steps,
    'small': lambda: sigmoid_of_steps() * 1e-12,
}


def noisy(maps: Tensor, copies: int = 20) -> Tensor:
    """Copies ``(copies, 32, 32)`` in float32, each off by rounding of its own."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((copies, *maps.shape[1:]), generator=generator) - 0.5
    return maps + maps.abs().max() * NOISE * noise


@pytest.mark.parametrize('name', MAPS)
@pytest.mark.parametrize('curve', [deletion_curve, insertion_curve])
def test_curves_do_not_depend_on_rounding(name: str, curve: Callable) -> None:
    maps = MAPS[name]()
    weights = torch.rand(1, SIDE, SIDE, dtype=torch.float64)

    def curves(attention: Tensor) -> Tensor:
        images = torch.ones(len(attention), 1, SIDE, SIDE, dtype=torch.float64)
        targets = torch.zeros(len(attention), dtype=torch.long)

        def predict(x: Tensor) -> Tensor:
            return torch.einsum('nchw,khw->nk', x, weights) / weights.sum()

        return curve(predict, images, attention, 0.0, targets, 16)

    expected = curves(maps)
    found = curves(noisy(maps))
    torch.testing.assert_close(found, expected.expand_as(found), rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', MAPS)
def test_places_do_not_depend_on_rounding(name: str) -> None:
    maps = MAPS[name]()
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[:, 5:17, 9:30] = True
    others = noisy(maps)
    masks = mask.expand_as(others)
    assert set(pointing_game(others, masks, 1).tolist()) == {
        pointing_game(maps, mask, 1).item()
    }
    low, high = maps.min().item(), maps.max().item()
    # Also at the thresholds that values lie on.
    on_values = [0.0, 1.0]
    if high > low:
        on_values += ((maps.unique() - low) / (high - low)).tolist()[:40]
    for threshold in (0.25, *(min(max(value, 0.0), 1.0) for value in on_values)):
        expected = attention_iou(maps, mask, threshold).item()
        found = attention_iou(others, masks, threshold)
        assert set(found.tolist()) == {expected}, threshold
    energy = attention_energy(maps, mask)
    torch.testing.assert_close(
        attention_energy(others, masks), energy.expand(20), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize('name', MAPS)
@pytest.mark.parametrize('how', ['minmax', 'standard', 'none'])
def test_attention_that_stays_is_consistent(name: str, how: str) -> None:
    others = noisy(MAPS[name]())
    similarity = map_similarity(others[:10], others[10:], how)
    assert consistency_score(similarity, torch.ones(10, dtype=torch.bool), 1.0) == 1


def test_without_preference_there_is_no_figure_of_rounding() -> None:
    mask = torch.zeros(20, SIDE, SIDE, dtype=torch.bool)
    mask[:, :8, :16] = True
    flat = noisy(torch.full((1, SIDE, SIDE), 0.5))
    for measure in (attention_energy, pointing_game, attention_iou):
        assert measure(flat, mask).tolist() == pytest.approx([1 / 8] * 20), measure


def test_smooth_maps_lose_nothing() -> None:
    """Without ties the order is that of the values."""
    values = torch.rand(1, 40).sort(descending=True).values
    order = torch.randperm(40)
    values = values[:, order]
    assert (values.sort().values.diff() > 1e-4).all()
    found = tie_ranks(values, rounding_of(values))[0]
    assert torch.equal(found, (-values[0]).argsort().argsort())


def test_doubts_that_differ_by_rounding_are_equal() -> None:
    generator = np.random.default_rng(0)
    wrong = torch.arange(200) % 3 == 0
    sure = torch.from_numpy(generator.uniform(0, 1e-7, 200))
    assert error_detection_auroc(sure, wrong) == 0.5
    # Doubts of another unit: only equal ones are equal.
    assert error_detection_auroc(sure, wrong, rounding=0.0) != 0.5
    assert error_detection_auroc(wrong.double() + sure, wrong) == 1


def test_confidence_on_the_end_of_a_bin_stays_there() -> None:
    """Five classes of equal score: 0.2 is an end of fifteen bins."""
    noise = torch.linspace(-5e-8, 5e-8, 40, dtype=torch.float64)
    correct = noise > 0
    found = expected_calibration_error(0.2 + noise, correct)
    assert found == pytest.approx(0.5 - 0.2, abs=1e-6)
