"""Decode heads with a latent per pixel, alone: values, samples, limits and errors."""

import pytest
import torch
from torch import nn

pytest.importorskip('mmseg')

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import FCNHead, PSPHead, SegformerHead, UPerHead
from narrow_segmentor import batch

import aib_mm
from aib_mm import gaussian
from aib_mm.segmentation import (
    AIBDecodeHead,
    AIBFCNHead,
    AIBPSPHead,
    AIBSegformerHead,
    GaussianConv,
    GaussianDecodeHead,
)
from aib_mm.segmentation.decode_heads import mean_logits

LEVELS = dict(in_channels=[6, 6], in_index=[0, 1])
LAST = dict(in_channels=6, in_index=1)
HEADS = [
    pytest.param(UPerHead, AIBDecodeHead, dict(LEVELS, pool_scales=(1, 2)), id='uper'),
    pytest.param(PSPHead, AIBPSPHead, dict(LAST, pool_scales=(1, 2)), id='psp'),
    pytest.param(SegformerHead, AIBSegformerHead, LEVELS, id='segformer'),
    pytest.param(FCNHead, AIBFCNHead, LAST, id='fcn'),
    pytest.param(FCNHead, AIBFCNHead, dict(LAST, concat_input=False), id='fcn-plain'),
]
COMMON = dict(channels=4, num_classes=3, norm_cfg=dict(type='BN'))

# Heads build their losses by name.
pytestmark = pytest.mark.usefixtures('mmseg_scope')


@pytest.mark.parametrize('classes', [1, 4])
def test_logits_of_mean_probabilities(classes: int) -> None:
    logits = 3 * torch.randn(5, 2, classes, 3, 3, dtype=torch.float64)
    found = mean_logits([logits], 'prob')
    if classes == 1:
        probs, mean = found.sigmoid(), logits.sigmoid().mean(dim=0)
        far = mean_logits([torch.full((2, 1, 1, 1, 1), 200.0)], 'prob')
        assert far.item() == pytest.approx(200), 'the sigmoid of 200 is 1'
    else:
        probs, mean = found.exp(), logits.softmax(dim=2).mean(dim=0)
    torch.testing.assert_close(probs, mean)


@pytest.mark.parametrize(('host', 'ours', 'arguments'), HEADS)
@pytest.mark.parametrize('act', ['ReLU', 'GELU', None])
def test_without_noise_it_is_the_vanilla_head(
    host: type, ours: type, arguments: dict, act: str | None
) -> None:
    """The last layer up to its norm becomes the mean; its activation comes after."""
    activation = dict(act_cfg=act and dict(type=act))
    vanilla = host(**arguments, **COMMON, **activation)
    vanilla.conv_seg.weight.data.mul_(50)
    for module in vanilla.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.bias.data.normal_()
    head = ours(**arguments, **COMMON, **activation)
    found = head.load_state_dict(vanilla.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert set(found.missing_keys) == {'latent.std.weight', 'latent.std.bias'}
    x = [torch.randn(2, 6, 8, 8), torch.randn(2, 6, 4, 4)]
    vanilla.eval(), head.eval()
    with torch.no_grad():
        torch.testing.assert_close(head(x), vanilla(x))
        metas = [dict(img_shape=(16, 16))] * 2
        head.test_samples = 0
        ours_, theirs = (one.predict(x, metas, {}) for one in (head, vanilla))
    torch.testing.assert_close(ours_, theirs)
    assert theirs.std() > 0.1
    again = ours(**arguments, **COMMON, **activation)
    assert not any(again.load_state_dict(head.state_dict()))


def test_the_std_starts_small_everywhere_and_is_not_computed_for_the_mean() -> None:
    head = AIBDecodeHead(**LEVELS, pool_scales=(1, 2), **COMMON)
    head.init_weights()
    x = [torch.randn(2, 6, 8, 8), torch.randn(2, 6, 4, 4)]
    std = head.encode(x, 1).std
    torch.testing.assert_close(std, torch.full_like(std, 0.006715348))
    calls = []
    head.latent.std.register_forward_hook(lambda *_: calls.append(1))
    head.encode(x, 0)
    assert not calls
    head.encode(x, 1)
    assert calls


def test_each_group_of_the_std_sees_its_part_of_the_features() -> None:
    layer = ConvModule(4, 6, 1, norm_cfg=dict(type='BN'))
    latent = GaussianConv(layer, std_groups=2)
    assert latent.std.weight.shape == (6, 2, 1, 1)
    nn.init.ones_(latent.std.weight)
    x = torch.zeros(1, 4, 2, 2)
    x[:, 3] = 1
    std = latent(x, 1).std
    assert std is not None
    torch.testing.assert_close(std[0, :3], gaussian.softplus_std(torch.zeros(3, 2, 2)))
    torch.testing.assert_close(std[0, 3:], gaussian.softplus_std(torch.ones(3, 2, 2)))


def test_the_losses_judge_the_draw_before_the_activation() -> None:
    head = AIBDecodeHead(**LEVELS, pool_scales=(1, 2), **COMMON)
    latent = head.encode([torch.randn(2, 6, 8, 8), torch.randn(2, 6, 4, 4)], 1)
    before = latent.samples.clone()
    head.decode(latent)
    assert torch.equal(latent.samples, before) and before.min() < 0


def test_heads_without_attention() -> None:
    """On plain features it is a bottleneck without attention."""
    head = AIBFCNHead(**LAST, **COMMON, train_samples=2, test_samples=3)
    x = [torch.randn(2, 6, 8, 8), torch.randn(2, 6, 4, 4)]
    losses = head.loss(x, batch(size=16, classes=3)['data_samples'], {})
    assert {'loss_ce', 'loss_kl', 'kl_nats', 'acc_seg'} == set(losses)
    logits = head.eval().predict(x, [dict(img_shape=(16, 16))] * 2, {})
    assert logits.shape == (2, 3, 16, 16)


def test_any_head_that_ends_in_cls_seg() -> None:
    from mmseg.models.decode_heads import ASPPHead

    class Own(GaussianDecodeHead, ASPPHead):
        last_layer = 'bottleneck'

    head = Own(**LAST, **COMMON)
    x = [torch.randn(2, 6, 8, 8), torch.randn(2, 6, 4, 4)]
    losses = head.loss(x, batch(size=16, classes=3)['data_samples'], {})
    assert 'loss_kl' in losses


def test_registered_for_the_host_and_for_aib_mm() -> None:
    from mmseg.registry import MODELS as HOST

    for head in (AIBDecodeHead, AIBFCNHead, AIBPSPHead, AIBSegformerHead):
        assert HOST.get(head.__name__) is head
        assert aib_mm.registry.MODELS.get(head.__name__) is head


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(train_samples=0), r'train_samples must be an integer >= 1, got 0'),
        (dict(test_samples=-1), r'test_samples must be an integer >= 0, got -1'),
        (dict(average='logits'), r"did you mean 'logit'"),
        (dict(std_kernel_size=2), r'std_kernel_size must be odd, got 2'),
        (dict(std_groups=0), r'std_groups must be an integer >= 1, got 0'),
        (dict(std_groups=5), r'std_groups=5 must divide the \d+ channels'),
        (dict(num_convs=0, channels=6, concat_input=False), r'set num_convs to 1'),
    ],
)
def test_impossible_arguments(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AIBFCNHead(**{**LAST, **COMMON, **change})


def test_a_layer_that_cannot_be_made_stochastic() -> None:
    with pytest.raises(ValueError, match=r'must be a ConvModule .* got Conv2d'):
        GaussianConv(nn.Conv2d(2, 2, 1))


@pytest.mark.parametrize('name', ['', 'fpn_bottlenek'])
def test_a_last_layer_that_the_head_lacks_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AIBDecodeHead, 'last_layer', name)
    settings = dict(in_channels=[4] * 4, in_index=[0, 1, 2, 3], channels=4)
    message = rf"AIBDecodeHead\.last_layer must be one of .*got '{name}'"
    with pytest.raises(ValueError, match=message) as error:
        AIBDecodeHead(**settings, num_classes=2, aib_loss=None)
    assert ("did you mean 'fpn_bottleneck'?" in str(error.value)) == bool(name)
