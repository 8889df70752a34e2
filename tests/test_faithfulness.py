"""IoU, insertion and deletion: hand-made maps, limits, and other people's libraries.

The literal values of ``test_libraries_agree`` are those of quantus 0.6.0 and
scikit-learn 1.9.1; where they are installed they are asked again.
"""

import importlib.util
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aib_mm.interpret.measure.faithfulness import (
    curve_area,
    deletion_curve,
    insertion_curve,
)
from aib_mm.interpret.measure.localization import (
    attention_energy,
    attention_iou,
    pointing_game,
)

MASK = torch.tensor([[True, True], [False, False]])[None]


def iou(values: list[float], threshold: float = 0.5, mask: Tensor = MASK) -> float:
    return attention_iou(torch.tensor(values).view(1, 2, 2), mask, threshold).item()


def test_iou_of_hand_made_maps() -> None:
    assert iou([1.0, 0.5, 0.0, 0.0]) == 1  # the threshold itself is held
    assert iou([1.0, 0.4, 0.0, 0.0]) == 1 / 2
    assert iou([1.0, 0.0, 1.0, 0.0]) == 1 / 3
    assert iou([0.0, 0.0, 1.0, 1.0]) == 0
    assert iou([5.0, 4.0, 3.0, 3.0]) == 1  # the minimum counts as zero
    assert iou([1.0, 0.4, 0.0, 0.0], threshold=0) == 2 / 4


def test_iou_at_its_limits() -> None:
    assert iou([0.3, 0.3, 0.3, 0.3]) == 2 / 4  # constant: all of it
    assert math.isnan(iou([1.0, 0.0, 0.0, 0.0], mask=torch.zeros_like(MASK)))
    for threshold in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r'threshold must be in \[0, 1\], got'):
            iou([1.0, 0.0, 0.0, 0.0], threshold)
    with pytest.raises(ValueError, match=r'must both be \(N, H, W\)'):
        attention_iou(torch.rand(2, 2), MASK)


class Weights(nn.Module):
    """Scores that are weighted sums of the pixels: ``(N, C, H, W)`` to ``(N, K)``."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)  # (K, H, W)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum('nchw,khw->nk', images, self.weights)


#: The second class gets 1, 2, 3, 4 of an image of ones.
MODEL = Weights(torch.tensor([[[0.0, 0], [0, 0]], [[1, 2], [3, 4]]]))
ONES = torch.ones(1, 1, 2, 2)
SECOND = torch.tensor([1])


def test_curves_of_a_hand_made_map() -> None:
    attention = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])  # 2, 3, 4, 1
    deleted = deletion_curve(MODEL, ONES, attention, 0.0, SECOND, steps=4)
    assert deleted.tolist() == [[10, 8, 5, 1, 0]]
    inserted = insertion_curve(MODEL, ONES, attention, 0.0, SECOND, steps=4)
    assert inserted.tolist() == [[0, 2, 5, 9, 10]]
    assert curve_area(deleted).item() == (5 + 8 + 5 + 1 + 0) / 4
    assert curve_area(inserted).item() == (0 + 2 + 5 + 9 + 5) / 4
    # Two steps of two pixels; three steps: after 1.33 and 2.67 pixels.
    two = deletion_curve(MODEL, ONES, attention, 0.0, SECOND, steps=2)
    assert two.tolist() == [[10, 5, 0]]
    three = deletion_curve(MODEL, ONES, attention, 0.0, SECOND, steps=3)
    assert three.tolist() == [[10, 8, 1, 0]]


def test_equal_attention_goes_row_by_row() -> None:
    attention = torch.full((1, 2, 2), 0.5)
    curve = deletion_curve(MODEL, ONES, attention, 0.0, SECOND, steps=4)
    assert curve.tolist() == [[10, 9, 7, 4, 0]]


def test_the_best_map_deletes_first_what_counts() -> None:
    weights = torch.rand(1, 4, 4)
    model, images = Weights(weights), torch.rand(1, 1, 4, 4) + 0.1
    target = torch.tensor([0])
    best = (weights * images[0])[0][None]

    def areas(attention: Tensor) -> tuple[float, float]:
        arguments = (model, images, attention, 0.0, target, 16)
        deleted, inserted = deletion_curve(*arguments), insertion_curve(*arguments)
        return curve_area(deleted).item(), curve_area(inserted).item()

    least, most = areas(best)
    for _ in range(20):
        deleted, inserted = areas(torch.rand(1, 4, 4))
        assert deleted >= least and inserted <= most
    assert areas(-best) == pytest.approx((most, least))


def test_images_of_a_batch_do_not_mix() -> None:
    images, attention = torch.rand(3, 2, 4, 4), torch.rand(3, 4, 4)
    model, targets = Weights(torch.rand(5, 4, 4)), torch.tensor([4, 0, 2])
    baseline = images.mean(dim=(2, 3), keepdim=True)
    for curve in (deletion_curve, insertion_curve):
        whole = curve(model, images, attention, baseline, targets, steps=5)
        assert whole.shape == (3, 6)
        for i in range(3):
            one = slice(i, i + 1)
            alone = curve(
                model, images[one], attention[one], baseline[one], targets[one], steps=5
            )
            torch.testing.assert_close(whole[one], alone)
        ends = model(images), model(baseline.expand_as(images))
        ends = ends if curve is deletion_curve else ends[::-1]
        for column, scores in zip((0, -1), ends, strict=True):
            expected = scores[torch.arange(3), targets]
            torch.testing.assert_close(whole[:, column], expected)
    assert not whole.requires_grad


def test_what_does_not_fit_is_refused() -> None:
    attention = torch.rand(1, 2, 2)
    with pytest.raises(ValueError, match=r'must be \(1, 2, 2\) .* got \(1, 4, 4\)'):
        deletion_curve(MODEL, ONES, torch.rand(1, 4, 4), 0.0, SECOND)
    with pytest.raises(ValueError, match=r'one class for each of 1 images, got \(2,\)'):
        insertion_curve(MODEL, ONES, attention, 0.0, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r'steps must be at most the 4 .* got 5'):
        deletion_curve(MODEL, ONES, attention, 0.0, SECOND, steps=5)
    with pytest.raises(ValueError, match=r'steps must be an integer >= 1, got 0'):
        deletion_curve(MODEL, ONES, attention, 0.0, SECOND, steps=0)


def example() -> tuple[Tensor, Tensor, Tensor, Weights]:
    """Images, maps with a minimum of 0, masks, and a model; from a formula."""
    count = torch.arange(2 * 36).view(2, 6, 6)
    images = ((count * 7) % 11 + 1).float().unsqueeze(1) / 11
    attention = ((count * 29) % 37).float() / 37
    attention -= attention.amin(dim=(1, 2), keepdim=True)
    masks = (count * 5) % 7 < 3
    return images, attention, masks, Weights(((count * 3) % 13).float() / 13)


TARGETS = torch.tensor([1, 0])
#: quantus: PixelFlipping(features_in_step=6), RelevanceMassAccuracy, PointingGame.
FLIPPED = [
    [6.538462, 3.965035, 3.377623, 2.412588, 1.503497, 0.0],
    [6.461538, 4.839161, 2.832168, 2.062937, 1.083916, 0.0],
]
ENERGY = [0.46656534, 0.4430769]
POINTED = [1.0, 0.0]
#: scikit-learn: jaccard_score of the maps at half of their maximum.
IOU = [8 / 27, 4 / 13]


def test_libraries_agree() -> None:
    images, attention, masks, model = example()
    curve = deletion_curve(model, images, attention, 0.0, TARGETS, steps=6)
    torch.testing.assert_close(curve[:, 1:], torch.tensor(FLIPPED))
    assert attention_energy(attention, masks).tolist() == pytest.approx(ENERGY)
    assert pointing_game(attention, masks).tolist() == POINTED
    assert attention_iou(attention, masks).tolist() == pytest.approx(IOU)


@pytest.mark.skipif(importlib.util.find_spec('quantus') is None, reason='needs quantus')
def test_quantus_says_so_today() -> None:
    import quantus

    images, attention, masks, model = example()
    arguments = dict(
        model=model.eval(),
        x_batch=images.numpy(),
        y_batch=TARGETS.numpy(),
        a_batch=attention.unsqueeze(1).numpy(),
        device='cpu',
        softmax=False,
    )
    same = dict(abs=False, normalise=False, disable_warnings=True)
    flipping = quantus.PixelFlipping(features_in_step=6, perturb_baseline=0.0, **same)
    found = [row[:6] for row in flipping(**arguments)]
    np.testing.assert_allclose(found, FLIPPED, rtol=1e-5, atol=1e-6)
    arguments['s_batch'] = masks.unsqueeze(1).numpy()
    energy = quantus.RelevanceMassAccuracy(**same)(**arguments)
    assert energy == pytest.approx(ENERGY)
    assert [*map(float, quantus.PointingGame(**same)(**arguments))] == POINTED


def test_scikit_learn_says_so_today() -> None:
    metrics = pytest.importorskip('sklearn.metrics')
    _, attention, masks, _ = example()
    held = attention >= 0.5 * attention.amax(dim=(1, 2), keepdim=True)
    found = [
        metrics.jaccard_score(m.flatten().numpy(), h.flatten().numpy())
        for m, h in zip(masks, held, strict=True)
    ]
    assert found == pytest.approx(IOU)
