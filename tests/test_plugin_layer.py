"""The attention inside the backbones of mmdet and mmseg, through their plugins."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from aib_mm.attention import AIBAttention, attention_modules
from aib_mm.hooks import AIBLossHook, AIBMonitorHook
from aib_mm.interpret import AttentionFieldsHook, record_attention
from aib_mm.interpret.record.source import BitsSource
from aib_mm.interpret.result import levels_of
from aib_mm.plugin_layer import AIBLayer

QT = dict(type='VQAnchorQuantizer', num_anchors=4)
BLOCKS = 9  # of the last two stages of a ResNet-50


def backbone(host: str = 'mmdet', plugin: dict | None = None, **options: Any) -> Any:
    """A narrow ResNet-50 of a host, with an AIBLayer in each block of two stages."""
    models = pytest.importorskip(f'{host}.registry').MODELS
    pytest.importorskip(f'{host}.models')
    cfg = ConfigDict(
        type='ResNet',
        depth=50,
        base_channels=4,
        stem_channels=4,
        norm_eval=False,
        zero_init_residual=False,
        **options,
    )
    if plugin is not None:
        layer = dict(cfg=dict(type='AIBLayer', **plugin), position='after_conv3')
        cfg.plugins = [dict(layer, stages=(False, False, True, True))]
    with DefaultScope.overwrite_default_scope(host):
        model = models.build(cfg)
        model.init_weights()
    return model


@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_hosts_build_the_layer_into_their_blocks(host: str) -> None:
    model = backbone(host, dict(initial_score=0.1, test_samples=2))
    names = [f'layer3.{i}' for i in range(6)] + [f'layer4.{i}' for i in range(3)]
    assert list(attention_modules(model)) == [f'{name}.aib.attention' for name in names]
    model.eval()
    with record_attention(model) as record, torch.no_grad():
        outs = model(torch.randn(1, 3, 64, 64))
    assert [out.shape[1] for out in outs] == [16, 32, 64, 128]
    for passes in record.values():
        ((maps,),) = passes
        assert maps.samples.shape[0] == 2


def test_the_layer_starts_as_configured_whatever_the_backbone_starts_with() -> None:
    """Kaiming, as mmdet's ResNet has it, would saturate every score."""
    for module in attention_modules(backbone(plugin=dict(initial_score=0.1))).values():
        conv = module.branches[0].mean_conv
        assert conv.bias.sigmoid().item() == pytest.approx(0.1)
        assert conv.weight.abs().max() <= (9 * conv.in_channels) ** -0.5


class Detector(BaseModel):
    """A backbone whose head knows nothing of the attention."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.backbone = net

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'loss'):
        outs = self.backbone(inputs)
        return dict(loss=outs[-1].square().mean())


def train_step(model: Detector, *hooks: Any) -> dict[str, Tensor]:
    """Losses of one step, after its backward pass."""
    runner = SimpleNamespace(
        model=model.train(),
        iter=0,
        message_hub=MessageHub('plugin'),
        visualizer=SimpleNamespace(add_scalars=lambda *_, **__: None),
    )
    for hook in hooks:
        hook.before_train(runner)
        hook.before_train_iter(runner, 0)
    losses = model(torch.randn(2, 3, 64, 64))
    model.parse_losses(losses)[0].backward()
    for hook in hooks:
        hook.after_train_iter(runner, 0)
        hook.after_train(runner)
    return dict(losses, scalars=runner.message_hub.log_scalars)


@pytest.mark.parametrize('modulation', ['scale', 'residual', 'bias'])
def test_every_parameter_gets_a_gradient(modulation: str) -> None:
    plugin = dict(modulation=modulation, std_kernel_size=3, quantizer=QT)
    model = Detector(backbone(plugin=plugin))
    train_step(model, AIBLossHook())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_hooks_find_the_losses_and_log_each_layer() -> None:
    model = Detector(backbone(plugin=dict(quantizer=QT)))
    done = train_step(model, AIBLossHook(), AIBMonitorHook(interval=1))
    assert done['loss_vq'].item() == pytest.approx(4 * done['loss_cmt'].item())
    logged = [key for key in done['scalars'] if key.endswith('.aib.attention_mean')]
    assert len(logged) == BLOCKS


def test_losses_nobody_takes_stop_the_step() -> None:
    with pytest.raises(RuntimeError, match='AIBLossHook'):
        train_step(Detector(backbone(plugin=dict(quantizer=QT))))


def test_checkpointed_blocks_train() -> None:
    model = Detector(backbone(plugin={}, with_cp=True))
    train_step(model)
    for module in attention_modules(model).values():
        assert module.branches[0].mean_conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('plugin', [dict(quantizer=QT), dict(modulation='replace')])
def test_blocks_whose_losses_come_too_late_are_refused(plugin: dict) -> None:
    train_step(Detector(backbone(plugin={}, with_cp=True)), AIBLossHook())  # no losses
    model = Detector(backbone(plugin=plugin, with_cp=True))
    message = r'with_cp=True of backbone .*layer3\.0.* set with_cp=False there'
    with pytest.raises(ValueError, match=message):
        train_step(model, AIBLossHook(attention_price=0.1))


def test_bits_are_those_of_all_layers_together() -> None:
    plain = Detector(backbone(plugin=dict(modulation='replace'))).eval()
    images, source = torch.randn(2, 3, 64, 64), BitsSource()
    with record_attention(plain) as record, torch.no_grad():
        plain(images)
    (bits,), level = levels_of(source, record, 'mean')
    nats = [passes[0][0].nats.sum(dim=(1, 2, 3)) for passes in record.values()]
    assert len(nats) == BLOCKS
    expected = torch.stack(nats).sum(dim=0) / math.log(2)
    torch.testing.assert_close(bits.mean.sum(dim=(1, 2, 3)), expected)
    (bits,), level = levels_of(source, record, 1)
    assert level == 'mean'
    expected = nats[1] / math.log(2)
    torch.testing.assert_close(bits.mean.sum(dim=(1, 2, 3)), expected)


def test_vanilla_weights_load_and_small_scores_leave_the_backbone_as_it_was() -> None:
    vanilla = backbone()
    model = backbone(plugin=dict(initial_score=1e-12, test_samples=0))
    missing, unexpected = model.load_state_dict(vanilla.state_dict(), strict=False)
    assert not unexpected
    layers = [name for name, m in model.named_modules() if isinstance(m, AIBLayer)]
    new = tuple(f'{name}.{part}.' for name in layers for part in AIBLayer.vanilla_lacks)
    assert len(layers) == BLOCKS
    assert all(key.startswith(new) for key in missing)
    assert {key for key in model.state_dict() if key.startswith(new)} == set(missing)
    images = torch.randn(2, 3, 64, 64)
    vanilla.eval()  # mmdet's gives None, not itself
    model.eval()
    with torch.no_grad():
        for ours, theirs in zip(model(images), vanilla(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_fields_take_the_maps_of_all_layers_together() -> None:
    from mmengine.structures import BaseDataElement

    class Predicting(Detector):
        def forward(self, inputs, data_samples=None, mode='predict'):
            self.backbone(inputs)
            return [BaseDataElement() for _ in inputs]

    model = Predicting(backbone(plugin={})).eval()
    hook = AttentionFieldsHook()
    hook.before_test(SimpleNamespace(model=model))
    with record_attention(model) as record, torch.no_grad():
        (sample,) = model(torch.randn(1, 3, 64, 64))
    maps = [passes[0][0].mean for passes in record.values()]
    assert [level.shape[-1] for level in maps] == [4] * 6 + [2] * 3
    resized = [nn.functional.interpolate(m, (4, 4), mode='bilinear') for m in maps]
    expected = torch.stack(resized).mean(dim=0)
    torch.testing.assert_close(sample.attention_mean, expected[0])


def test_what_changes_the_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r'makes 16 channels of 8.*modulation=.scale.'):
        AIBLayer(8, modulation='concat')
    with pytest.raises(ValueError, match=r"modulation must be one of .* got 'sum'"):
        AIBLayer(8, modulation='sum')


def test_the_layer_is_the_neck_on_one_level() -> None:
    layer = AIBLayer(8, test_samples=0).eval()
    assert isinstance(layer.attention, AIBAttention)
    x = torch.randn(2, 8, 3, 5)
    mean = layer.attention((x,)).attention[0].mean
    torch.testing.assert_close(layer(x), x * (1 + mean))
