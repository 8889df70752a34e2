"""Maps that attention is compared with: against loops, by hand, and what is refused."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from aib_mm.interpret.record.baselines import center_map, occlusion_map, random_map
from aib_mm.utils.libraries import MissingLibraryError

WEIGHTS = torch.rand(3, 2, 7, 9)  # of K classes, C channels


def predict(images: Tensor) -> Tensor:
    """Scores that are weighted sums of the pixels, so that every fall is known."""
    return torch.einsum('nchw,kchw->nk', images, WEIGHTS)


def test_occlusion_equals_the_loop() -> None:
    pytest.importorskip('captum')
    images, targets = torch.rand(2, 2, 7, 9), torch.tensor([2, 0])
    found = occlusion_map(predict, images, targets, window=3, stride=2, baseline=0.5)
    assert found.shape == (2, 7, 9)
    falls, times = torch.zeros(2, 7, 9), torch.zeros(7, 9)
    for row in (0, 2, 4):
        for column in (0, 2, 4, 6):
            place = np.s_[..., row : row + 3, column : column + 3]
            hidden = images.clone()
            hidden[place] = 0.5
            fall = predict(images) - predict(hidden)
            falls[place] += fall[[0, 1], targets].view(2, 1, 1)
            times[place] += 1
    torch.testing.assert_close(found, falls / times)


def test_occlusion_of_one_pixel_is_its_share_of_the_score() -> None:
    pytest.importorskip('captum')
    images, targets = torch.rand(1, 2, 7, 9), torch.tensor([1])
    found = occlusion_map(predict, images, targets, window=1, stride=1)
    torch.testing.assert_close(found, (images * WEIGHTS[1]).sum(dim=1))


def test_a_score_that_stays_but_for_rounding_has_no_map() -> None:
    pytest.importorskip('captum')

    def rounded(images: Tensor) -> Tensor:
        """One class, whose score loses its last digits in each pass its own way."""
        return 1 - 1e-7 * images.sum(dim=(1, 2, 3)).frac().unsqueeze(1)

    images, targets = torch.rand(2, 2, 7, 9), torch.tensor([0, 0])
    found = occlusion_map(rounded, images, targets, window=3, stride=2)
    assert torch.equal(found, torch.zeros(2, 7, 9))


def test_the_center_map_is_a_gaussian_around_the_centre() -> None:
    found = center_map((4, 8))
    assert found.shape == (4, 8)
    assert torch.equal(found, found.flip(0)) and torch.equal(found, found.flip(1))
    # 1/8 and 1/16 of a side from the centre, at a std of a quarter.
    assert found[1, 3].item() == pytest.approx(np.exp(-0.125) * np.exp(-0.03125))
    assert found.argmax().item() in {8 + 3, 8 + 4, 16 + 3, 16 + 4}


def test_random_maps_follow_their_generator() -> None:
    one, same, other = (
        random_map((5, 6), np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.shape == (5, 6) and 0 <= one.min() < one.max() < 1


def test_windows_that_do_not_fit_are_refused() -> None:
    images, targets = torch.rand(1, 2, 7, 9), torch.tensor([0])
    with pytest.raises(ValueError, match=r'8×8 pixels does not fit into 7×9'):
        occlusion_map(predict, images, targets, window=8, stride=4)
    with pytest.raises(ValueError, match=r'stride must be an integer >= 1, got 0'):
        occlusion_map(predict, images, targets, window=2, stride=0)
    with pytest.raises(ValueError, match=r'window must be an integer >= 3, got 2'):
        occlusion_map(predict, images, targets, window=2, stride=3)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'captum.attr', None)
    images, targets = torch.rand(1, 2, 7, 9), torch.tensor([0])
    with pytest.raises(MissingLibraryError, match=r'occlusion maps .*install captum'):
        occlusion_map(predict, images, targets, window=2, stride=1)
