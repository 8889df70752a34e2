"""Class activation: its layer, its values, its scores, the draws it is of."""

from pathlib import Path
from typing import Any

import pytest
import torch
from attention_files import write_images, write_model
from mmengine.config import Config
from mmengine.registry import DefaultScope
from shipped_configs import PATHS, built
from torch import Tensor, nn

from aib_mm.apis import AttentionInferencer
from aib_mm.errors import InferenceError
from aib_mm.interpret.record.class_activation import class_activation, default_layer
from aib_mm.interpret.record.source import ClassActivationSource

MIN_SCORE = 0.05
VGGS = [path for path in PATHS if path.stem.startswith('vgg16-narrow')]


class Pooled(nn.Module):
    """Conv, ReLU, global average pooling, linear: where CAM and Grad-CAM agree."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(4)
        )
        self.fc = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.backbone(images).mean(dim=(2, 3)))


def test_the_default_layer_is_the_last_large_one() -> None:
    model = Pooled()
    # 16×16 after the ReLU, 4×4 after the pooling.
    assert default_layer(model, torch.rand(1, 3, 16, 16)) == 'backbone.1'
    assert default_layer(model.backbone, torch.rand(1, 3, 16, 16)) == '1'
    assert default_layer(model, torch.rand(1, 3, 32, 32)) == 'backbone'
    with pytest.raises(ValueError, match=r'no layer of Pooled .* 7×7 .* 6, 6\)'):
        default_layer(model, torch.rand(1, 3, 6, 6))
    model.fc.register_full_backward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        default_layer(model, torch.rand(1, 3, 16, 16))
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize('path', VGGS, ids=lambda path: path.stem)
def test_the_default_layer_of_every_vgg_is_at_one_depth(path: Path) -> None:
    pytest.importorskip('mmpretrain')
    model = built(Config.fromfile(path), 32).eval()
    layer = default_layer(model, torch.rand(1, 3, 32, 32))
    # VGG-GAP has one conv more, behind block 5: where its Grad-CAM is CAM.
    expected = 'head.conv' if 'gap' in path.stem else 'conv5_3'
    assert layer.endswith(expected)


def test_grad_cam_of_a_pooled_layer_is_the_weighted_sum() -> None:
    pytest.importorskip('pytorch_grad_cam')
    model, images = Pooled().eval(), torch.rand(3, 3, 8, 8)
    logits, maps = class_activation(model, model.backbone[1], images)
    with torch.no_grad():
        features = model.backbone[1](model.backbone[0](images))
        torch.testing.assert_close(logits, model(images))
    for image in range(3):
        weights = model.fc.weight[logits[image].argmax()].detach()
        raw = torch.einsum('k,khw->hw', weights, features[image]).clamp_min(0)
        scaled = (raw - raw.min()) / (raw - raw.min()).max().clamp_min(1e-30)
        torch.testing.assert_close(maps[image], scaled, atol=1e-3, rtol=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_class_activation_is_of_the_draws_that_were_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('mmdet')
    pytest.importorskip('pytorch_grad_cam')
    files = write_model('mmdet', tmp_path, samples=2)
    images = write_images(tmp_path, dict.fromkeys(('a.png', 'b.png'), (64, 64)))
    own = AttentionInferencer(*files, min_score=MIN_SCORE)
    other = AttentionInferencer(*files, min_score=MIN_SCORE, source='gradcam')
    scores, seen = other._host.scores, []

    def spy(*args: Any, **options: Any) -> Any:
        found = scores(*args, **options)
        seen.append(found[0].item())
        return found

    monkeypatch.setattr(other._host, 'scores', spy)
    pairs = list(zip(own(images, seed=1), other(images, seed=1), strict=True))
    for ours, theirs in pairs:
        for name in ('scores', 'bboxes'):
            values = [x.prediction.pred_instances[name] for x in (ours, theirs)]
            assert torch.equal(*values)
        assert ours.information.total_bits == theirs.information.total_bits
    # The first image is also looked at for the layer.
    sums = [x.prediction.pred_instances.scores for x, _ in pairs]
    sums = [values[values > MIN_SCORE].sum().item() for values in sums]
    assert seen == pytest.approx([sums[0], *sums]) and sums[0] != sums[1]


def test_class_activation_takes_no_draws_from_the_next_image(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    pytest.importorskip('pytorch_grad_cam')
    files = write_model('mmpretrain', tmp_path, samples=2)
    images = write_images(tmp_path, dict.fromkeys(('a.png', 'b.png'), (32, 32)))
    own, other = (
        AttentionInferencer(*files, source=source)(images, seed=1)
        for source in ('attention', 'gradcam')
    )
    for ours, theirs in zip(own, other, strict=True):
        assert torch.equal(ours.prediction.pred_score, theirs.prediction.pred_score)
        entropy = [x.uncertainty['mutual_information'] for x in (ours, theirs)]
        assert entropy[0] == entropy[1]


@pytest.mark.parametrize(
    'base',
    ['mask-rcnn_r50_fpn.py', 'retinanet_r50_fpn.py', 'detr/detr_r50_8xb2-150e_coco.py'],
)
def test_scores_of_every_kind_of_detector_have_gradients(base: str) -> None:
    pytest.importorskip('mmdet')
    from mmdet.registry import MODELS

    from aib_mm.detection.predictions import scores
    from aib_mm.detection.random_batch import random_batch
    from aib_mm.hosts import config_path

    inside = base if '/' in base else f'_base_/models/{base}'
    cfg = Config.fromfile(config_path(f'mmdet::{inside}')).model
    cfg.backbone.update(depth=18, init_cfg=None)
    if 'neck' in cfg and cfg.neck.type == 'FPN':
        cfg.neck.in_channels = [64, 128, 256, 512]
        cfg.test_cfg.get('rcnn', cfg.test_cfg).score_thr = 0.0
    else:
        cfg.neck.in_channels = [512]
        cfg.encoder.num_layers = cfg.decoder.num_layers = 1
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        model = MODELS.build(cfg).eval()
        data = random_batch(1, (64, 64), num_classes=80, objects=1)
        data = model.data_preprocessor(data, False)
        (score,) = scores(model, data, (), 0.0)
        assert score is not None
        score.backward()
        assert model.backbone.layer4[0].conv1.weight.grad.any()
        assert scores(model, data, (), 1.0) == [None]


def test_one_logit_is_the_class_where_it_is_found() -> None:
    pytest.importorskip('mmseg')
    from aib_mm.segmentation.predictions import _score

    logits = torch.tensor([[[-1.0, 2.0], [0.5, -3.0]]])
    labels = (logits > 0).long()
    score = _score(logits.sigmoid(), labels)
    assert score is not None
    torch.testing.assert_close(score, torch.tensor(2.5), atol=1e-4, rtol=1e-4)
    assert _score(logits.sigmoid(), torch.zeros_like(labels)) is None
    several = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])
    score = _score(several, several.argmax(dim=0, keepdim=True))
    assert score == 3.0 + 2.0


def test_a_layer_that_nothing_depends_on_is_named() -> None:
    pytest.importorskip('pytorch_grad_cam')

    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen, self.aside = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            self.aside(images)
            return self.seen(images).mean(dim=(2, 3))

    model = Aside().eval().requires_grad_(False)  # frozen layers have maps too
    source = ClassActivationSource(layer='seen')
    assert source.activate(model, torch.rand(2, 3, 8, 8))[1].shape == (2, 8, 8)
    with pytest.raises(InferenceError, match='does not depend on what the layer'):
        ClassActivationSource(layer='aside').activate(model, torch.rand(2, 3, 8, 8))
    model.requires_grad_()
    with pytest.raises(InferenceError, match='does not depend'):
        ClassActivationSource(layer='aside').activate(model, torch.rand(2, 3, 8, 8))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
