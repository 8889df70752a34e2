"""Samples of only those RoIs that a first pass finds worth them."""

from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.structures.bbox import bbox2roi
from narrow_detector import NARROW, batch, build, prepared, proposals, strong_noise
from torch import Tensor, nn

KEYS = ('cls_score', 'bbox_pred')


@pytest.fixture
def model() -> nn.Module:
    """A detector whose maps are random and whose latents are at their mean."""
    torch.manual_seed(0)
    model = build(NARROW, **{'neck.test_samples': 3, 'roi_head.test_samples': 0})
    strong_noise(model)
    return model


def rois() -> Tensor:
    return bbox2roi([proposals().bboxes, proposals(7).bboxes])


def predicted(model: nn.Module, expected: bool = False) -> dict[str, Tensor]:
    """Scores and deltas of 19 RoIs of two images, the maps drawn with one seed."""
    data = prepared(model, batch(), training=False)
    with torch.no_grad():
        torch.manual_seed(1)
        x = model.extract_feat(data['inputs'])
        return model.roi_head._bbox_forward(x.expected if expected else x, rois())


def test_only_rois_above_the_score_are_sampled(model: nn.Module) -> None:
    sampled, mean = predicted(model), predicted(model, expected=True)
    scores = mean['cls_score'].softmax(dim=-1)[:, :-1].amax(dim=-1)
    threshold = scores.median().item()
    above = scores > threshold
    assert 0 < above.sum() < len(above)
    model.roi_head.sample_above = threshold
    found = predicted(model)
    for key in KEYS:
        assert (sampled[key] - mean[key]).abs().amax(dim=1).min() > 1e-3
        torch.testing.assert_close(found[key][above], sampled[key][above])
        torch.testing.assert_close(found[key][~above], mean[key][~above])


@pytest.mark.parametrize('threshold', [1e-9, 1 - 1e-9])
def test_all_rois_or_none(model: nn.Module, threshold: float) -> None:
    wanted = predicted(model, expected=threshold > 0.5)
    model.roi_head.sample_above = threshold
    for key in KEYS:
        torch.testing.assert_close(predicted(model)[key], wanted[key])


def test_the_extractor_sees_the_others_once(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    extractor = model.roi_head.bbox_roi_extractor
    forward = extractor.forward

    def counting(maps: Any, boxes: Tensor) -> Tensor:
        seen.append(len(boxes))
        return forward(maps, boxes)

    monkeypatch.setattr(extractor, 'forward', counting)
    mean = predicted(model, expected=True)['cls_score'].softmax(dim=-1)
    scores = mean[:, :-1].amax(dim=-1)
    model.roi_head.sample_above = scores.median().item()
    seen.clear()
    predicted(model)
    assert seen == [19, 3 * int((scores > scores.median()).sum())]


def test_training_samples_every_roi(model: nn.Module) -> None:
    data = prepared(model, batch(), training=True)
    losses = []
    for model.roi_head.sample_above in (None, 1 - 1e-9):
        torch.manual_seed(2)
        losses.append(model(**data, mode='loss')['loss_cls'].item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'roi_head.sample_above': 0.0}, r'sample_above must be in \(0, 1\), got 0.0'),
        ({'roi_head.sample_above': 5}, r'sample_above must be in \(0, 1\), got 5'),
        (
            {
                'roi_head.sample_above': 0.01,
                'roi_head.bbox_head.loss_cls': dict(
                    type='SeesawLoss', num_classes=10, _delete_=True
                ),
            },
            'sample_above=0.01 compares softmax',
        ),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(NARROW, **changes)
