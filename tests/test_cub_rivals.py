"""VGG-PAN and WRN-ABN for CUB: the host's stages apart, with weights of the whole."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.models.backbones import VGG
from mmpretrain.registry import MODELS
from torch import nn

from aib_mm.classification import ResNetStage, VGGStage
from aib_mm.classification.imagenet_weights import split_weights
from aib_mm.interpret import record_attention

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmpretrain'


def model_of(name: str, width: int | None = None) -> nn.Module:
    """The config's model in evaluation, a ResNet of ``width`` channels."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py').model
    if width is not None:
        for part in (cfg.backbone, cfg.head.branch, cfg.head.body):
            part.base_channels = width
    return MODELS.build(cfg).eval()


@pytest.mark.parametrize('norm_cfg', [None, dict(type='BN')], ids=['plain', 'norm'])
@pytest.mark.parametrize('stage', [1, 2, 5])
def test_a_stage_is_the_hosts(stage: int, norm_cfg: dict | None) -> None:
    host = VGG(11, norm_cfg=norm_cfg, with_last_pool=False)
    host.eval()  # gives nothing back
    module = VGGStage(11, stage, norm_cfg).eval()
    missing, _ = module.load_state_dict(host.state_dict(), strict=False)
    assert not missing
    begin, end = host.range_sub_modules[stage - 1]
    x = torch.randn(2, (3, 64, 128, 256, 512)[stage - 1], 6, 8)
    expected = x
    for layer in host.features[begin:end]:
        if not isinstance(layer, nn.MaxPool2d):
            expected = layer(expected)
    (found,) = module(x)
    assert torch.equal(found, expected)
    assert found.shape == (2, module.out_channels, 6, 8)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=12, stage=1), r'depth must be one of \[11, 13, 16, 19\], got 12'),
        (dict(depth=11, stage=0), r'stage must be one of \[1, 2, 3, 4, 5\], got 0'),
    ],
)
def test_bad_stages(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VGGStage(**arguments)


def test_pan_without_attention_is_the_hosts_vgg_of_the_checkpoint() -> None:
    whole = VGG(16, with_last_pool=False)
    whole.eval()
    source = {f'backbone.{key}': value for key, value in whole.state_dict().items()}
    model = model_of('vgg16_pan_cub')
    split = split_weights(model, source)
    assert list(split.parts) == ['backbone', 'neck.stages.0', 'neck.stages.1']
    assert not split.left
    assert all(key.startswith(('neck.scores.', 'head.fc.')) for key in split.new)
    model.load_state_dict(split.weights, strict=False)
    # Scores of 30 let everything pass; equal ones at the end give the mean.
    for score in model.neck.scores:
        nn.init.zeros_(score[-1].weight)
        if score[-1].bias is not None:
            nn.init.constant_(score[-1].bias, 30.0)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), record_attention(model) as record:
        found = model(images)
        expected = model.head.fc(whole(images)[0].mean(dim=(2, 3)))
    torch.testing.assert_close(found, expected)
    ((levels,),) = record.values()
    assert [tuple(maps.mean.shape[2:]) for maps in levels] == [(16, 16), (8, 8), (4, 4)]


def test_abn_has_the_hosts_last_stage_in_both_branches() -> None:
    cfg = Config.fromfile(CONFIGS / 'wrn50-2_cub.py').model
    cfg.backbone.base_channels, cfg.head.in_channels = 8, 128
    whole = MODELS.build(cfg).eval()
    model = model_of('wrn50-2_abn_cub', width=8)
    split = split_weights(model, whole.state_dict())
    assert list(split.parts) == ['backbone', 'head.branch.body', 'head.body']
    assert set(split.left) == {'head.fc.weight', 'head.fc.bias'}
    new = {key.rpartition('.')[0] for key in split.new}
    branch = {f'head.branch.{name}' for name in ('class_maps', 'score', 'norm')}
    assert new == {'head.fc', *branch}
    model.load_state_dict(split.weights, strict=False)
    for stage in (model.head.body, model.head.branch.body):
        assert isinstance(stage, ResNetStage)
        for key, value in stage.layer4.state_dict().items():
            assert torch.equal(value, whole.backbone.layer4.state_dict()[key])
    # A score far below zero attends to nothing: the perception branch is the host's.
    nn.init.constant_(model.head.branch.norm.bias, -40.0)
    nn.init.zeros_(model.head.branch.norm.weight)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), record_attention(model) as record:
        pooled = model.head.pre_logits(model.backbone(images))
        expected = whole.backbone(images)[-1].mean(dim=(2, 3))
    torch.testing.assert_close(pooled, expected)
    ((levels,),) = record.values()
    assert levels[0].mean.shape == (1, 1, 4, 4)
