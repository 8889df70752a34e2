"""Where the attention lies: against loops, hand-made maps and limits."""

import numpy as np
import pytest
import reference
import torch
from mmengine.evaluator import Evaluator

from aib_mm.interpret import (
    AttentionLocalization,
    LatentInformation,
    attention_energy,
    dilate,
    pointing_game,
    resize_map,
)

MASK = torch.zeros(1, 4, 4, dtype=torch.bool)
MASK[0, 1, 1:3] = True


def test_energy_equals_the_loop() -> None:
    maps, masks = torch.rand(3, 5, 6), torch.rand(3, 5, 6) > 0.7
    expected = [reference.energy(a, m) for a, m in zip(maps, masks, strict=True)]
    assert attention_energy(maps, masks).tolist() == pytest.approx(expected, rel=1e-6)


def test_energy_of_hand_made_maps() -> None:
    on_object = MASK.float() * 3 + 1
    assert attention_energy(on_object, MASK).item() == 1
    assert attention_energy(-on_object, MASK).item() == 0
    constant = torch.full((1, 4, 4), 0.5)
    assert attention_energy(constant, MASK).item() == pytest.approx(2 / 16)


def test_pointing_hits_misses_and_tolerates() -> None:
    def peak(row: int, column: int) -> torch.Tensor:
        attention = torch.zeros(1, 4, 4)
        attention[0, row, column] = 1
        return attention

    assert pointing_game(peak(1, 2), MASK).item() == 1
    assert pointing_game(peak(2, 3), MASK).item() == 0
    assert pointing_game(peak(2, 3), MASK, tolerance=1).item() == 1
    assert pointing_game(peak(3, 3), MASK, tolerance=1).item() == 0


def test_tied_maxima_count_by_share() -> None:
    attention = torch.zeros(1, 4, 4)
    attention[0, 1, 1] = attention[0, 3, 3] = 1
    assert pointing_game(attention, MASK).item() == 0.5
    assert pointing_game(torch.ones(1, 4, 4), MASK).item() == 2 / 16


def test_dilation_is_the_square_neighbourhood() -> None:
    assert dilate(MASK, 1).sum().item() == 12
    assert torch.equal(dilate(MASK, 0), MASK)


def test_resizing_keeps_constants_and_places() -> None:
    attention = torch.zeros(1, 1, 2, 2)
    attention[0, 0, 1, 0] = 1
    resized = resize_map(attention, (8, 8))
    assert resized.shape == (1, 8, 8)
    assert resized[0].argmax().item() // 8 >= 4
    assert resized[0].argmax().item() % 8 < 4


def test_a_map_of_nan_has_no_energy_share() -> None:
    assert attention_energy(torch.full((1, 4, 4), torch.nan), MASK).isnan()


def test_bad_shapes_and_types_are_named() -> None:
    with pytest.raises(ValueError, match=r'got \(1, 1, 2, 2\) and \(1, 2, 2\)'):
        attention_energy(torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2).bool())
    with pytest.raises(ValueError, match=r'mask must be bool, got torch\.float32'):
        pointing_game(torch.ones(1, 2, 2), torch.ones(1, 2, 2))


def sample(**fields) -> dict:
    return dict(attention_mean=torch.rand(1, 2, 2), **fields)


def test_metric_averages_over_images() -> None:
    metric = AttentionLocalization(tolerance=0)
    mask = MASK[0].numpy().astype(np.uint8)
    hit = dict(attention_mean=MASK.float(), gt_seg_map=mask)
    miss = dict(attention_mean=(~MASK).float(), gt_seg_map=mask)
    evaluator = Evaluator(metric)
    evaluator.process([hit, miss])
    result = evaluator.evaluate(2)
    assert result['attention/energy'] == 0.5
    assert result['attention/pointing'] == 0.5
    assert result['attention/area'] == result['attention/chance'] == 2 / 16


def test_information_in_nats_and_bits() -> None:
    metric = LatentInformation()
    metric.process(None, [sample(kl_nats=torch.tensor(1.0)), sample(kl_nats=3.0)])
    result = metric.evaluate(2)
    assert result['latent/kl_nats'] == 2
    assert result['latent/kl_bits'] == pytest.approx(2 / np.log(2))


def test_missing_fields_name_the_remedy() -> None:
    with pytest.raises(KeyError, match=r"'gt_seg_map'.*PackInputs\(algorithm_keys"):
        AttentionLocalization().process(None, [sample()])
    with pytest.raises(KeyError, match='attention_mean'):
        AttentionLocalization().process(None, [dict(gt_seg_map=MASK)])
    with pytest.raises(KeyError, match='density'):
        LatentInformation().process(None, [sample()])
