"""WRN and stages of ResNet: values, cuts, sizes and cost, alone and in classifiers."""

import itertools
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmpretrain.models.backbones import ResNet
from mmpretrain.registry import MODELS
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from aib_mm.classification import ResNetStage, WideResNetBlocks
from aib_mm.classification.random_batch import random_batch
from aib_mm.encoders import GaussianEncoder
from aib_mm.interpret import record_attention

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmpretrain'
TINY = dict(depth=16, widen_factor=0.25)


def blocks(**kwargs) -> WideResNetBlocks:
    """A tiny network whose batch norms are not the identity."""
    module = WideResNetBlocks(**{**TINY, **kwargs})
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias)
        torch.nn.init.normal_(norm.running_mean)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return module.eval()


def classifier(name: str, **overrides) -> torch.nn.Module:
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.merge_from_dict(overrides)
    return MODELS.build(cfg.model)


# --- against the network's definition ---------------------------------------------


def bn_relu(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """Batch norm of Ioffe and Szegedy with the running statistics, then ReLU."""
    scale, shift, mean, variance = (
        weights[f'{name}.{part}'].view(1, -1, 1, 1)
        for part in ('weight', 'bias', 'running_mean', 'running_var')
    )
    return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)


def conv(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """A sum over the kernel's positions of channel mixtures of the shifted image."""
    size = kernel.shape[-1]
    pad = size // 2
    padded = torch.zeros(*x.shape[:2], x.shape[2] + 2 * pad, x.shape[3] + 2 * pad)
    padded = padded.to(x)
    padded[..., pad : pad + x.shape[2], pad : pad + x.shape[3]] = x
    out = 0
    for i, j in itertools.product(range(size), repeat=2):
        part = padded[..., i : i + x.shape[2], j : j + x.shape[3]]
        part = part[..., ::stride, ::stride]
        out = out + torch.einsum('oc,nchw->nohw', kernel[..., i, j], part)
    return out


def wide_resnet(x: Tensor, weights: dict[str, Tensor], per_group: int) -> Tensor:
    """Zagoruyko and Komodakis, Table 1 and Fig. 1d, with the pre-activation of He."""
    x = conv(x, weights['layers.stem.weight'], 1)
    for group, first in ((1, 1), (2, 2), (3, 2)):
        for i in range(per_group):
            name = f'layers.block{group}.{i}'
            stride = first if i == 0 else 1
            activated = bn_relu(x, weights, f'{name}.bn1')
            branch = conv(activated, weights[f'{name}.conv1.weight'], stride)
            branch = bn_relu(branch, weights, f'{name}.bn2')
            branch = conv(branch, weights[f'{name}.conv2.weight'], 1)
            if i == 0:
                x = conv(activated, weights[f'{name}.shortcut.weight'], stride)
            x = x + branch
    return bn_relu(x, weights, 'layers.norm')


def test_values_are_those_of_the_definition() -> None:
    module = blocks().double()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    (found,) = module(images)
    torch.testing.assert_close(found, wide_resnet(images, module.state_dict(), 2))


@pytest.mark.parametrize('cut', [1, 2])
def test_a_cut_gives_the_whole_network(cut: int) -> None:
    whole = blocks()
    front = blocks(blocks=range(1, cut + 1))
    back = blocks(blocks=range(cut + 1, 4))
    for part in (front, back):
        missing, _ = part.load_state_dict(whole.state_dict(), strict=False)
        assert not missing
    assert whole.state_dict().keys() == (
        front.state_dict().keys() | back.state_dict().keys()
    )
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(back(front(x)[0])[0], whole(x)[0])


def test_strides_and_channels() -> None:
    images = torch.randn(2, 3, 32, 32)
    for last, size in ((1, 32), (2, 16), (3, 8)):
        module = blocks(blocks=range(1, last + 1))
        assert module.out_channels == 4 * 2 ** (last - 1)
        assert module(images)[0].shape == (2, module.out_channels, size, size)
    attention = blocks(blocks=(3,), first_stride=1)
    assert attention(torch.randn(2, 8, 16, 16))[0].shape == (2, 16, 16, 16)


def test_a_modulation_that_concatenates_meets_a_stride() -> None:
    """Block 3 then has as many channels before as after: the shortcut must shrink."""
    doubled = blocks(blocks=(3,), in_channels=16)
    assert doubled(torch.randn(2, 16, 16, 16))[0].shape == (2, 16, 8, 8)


def test_the_end_is_normalised_unless_cut() -> None:
    assert list(blocks(blocks=(1, 2)).layers._modules) == ['stem', 'block1', 'block2']
    assert blocks(blocks=(1, 2))(torch.randn(2, 3, 8, 8))[0].min() < 0
    for module in (blocks(blocks=(2, 3)), blocks(blocks=(1,), final_norm=True)):
        assert list(module.layers._modules)[-2:] == ['norm', 'relu']
    assert 'norm' not in blocks(final_norm=False).layers._modules


def test_the_released_attention_branch() -> None:
    module = blocks(blocks=(3,), first_stride=1, pointwise=5)
    assert module.out_channels == 5
    bare = blocks(blocks=(3,), first_stride=1, final_norm=False)
    weights = module.state_dict()
    bare.load_state_dict(weights, strict=False)
    x = torch.randn(2, 8, 4, 4)
    (h,) = bare(x)
    found, norm = module(x)[0], module.layers.norm
    h = functional.conv2d(norm(h), weights['layers.pointwise.weight'])
    torch.testing.assert_close(found, bn_relu(h, weights, 'layers.pointwise_norm'))


def test_the_released_start_of_fc_layers() -> None:
    """Biases at 0, and weights as torch starts them."""
    cfg = Config.fromfile(CONFIGS / 'wrn28-10_aib_released_cifar10.py').model.head
    cfg.encoder.body.update(TINY)
    head = MODELS.build(cfg)
    head.init_weights()
    layers = [m for m in head.modules() if isinstance(m, torch.nn.Linear)]
    assert len(layers) == 2
    for layer in layers:
        assert not layer.bias.any()
        bound = layer.in_features**-0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_dropout_is_between_the_convs_and_in_training_only() -> None:
    (block,) = blocks(blocks=(1,), depth=10, dropout=0.5).layers.block1
    seen = []
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(4, 16, 16, 16)
    assert torch.equal(block(x), block(x))
    h = block.relu(block.bn2(block.conv1(block.relu(block.bn1(x)))))
    torch.testing.assert_close(seen[0], h)
    block.train()
    block.bn1.eval(), block.bn2.eval()
    block(x)
    kept = seen[2] != 0
    torch.testing.assert_close(seen[2][kept], 2 * h[kept])
    share = kept[h > 0].float().mean().item()
    assert share == pytest.approx(0.5, abs=0.05)


def test_convs_start_with_the_variance_that_relu_keeps() -> None:
    module = WideResNetBlocks(depth=10, widen_factor=4)
    module.init_weights()
    weight = module.layers.block3[0].conv2.weight
    fan_out = 256 * 9
    assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    assert module.layers.norm.weight.eq(1).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(blocks=(1, 3)), r'consecutive numbers, got \[1, 3\]'),
        (dict(blocks=()), r'consecutive numbers, got \[\]'),
        (dict(blocks=(3, 4)), r'among \[1, 2, 3\], got \[3, 4\]'),
        (dict(depth=18), r'depth must be 6n \+ 4 \(10, 16, .*\), got 18'),
        (dict(depth=4), 'depth must be an integer >= 10, got 4'),
        (dict(widen_factor=0.01), 'at least one channel, got 0.01'),
        (dict(dropout=1.0), r'dropout must be in \[0, 1\), got 1.0'),
        (dict(in_channels=0), 'in_channels must be an integer >= 1, got 0'),
        (dict(first_stride=0), 'first_stride must be an integer >= 1, got 0'),
        (dict(pointwise=0), 'pointwise must be an integer >= 1, got 0'),
        (
            dict(blocks=(1, 2), pointwise=4),
            'pointwise=4 comes after the final batch norm: .* final_norm',
        ),
    ],
)
def test_bad_blocks(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WideResNetBlocks(**{**TINY, **arguments})


# --- a stage of the host's ResNet -------------------------------------------------


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('stage', [1, 4])
def test_a_stage_is_the_hosts(depth: int, stage: int) -> None:
    expansion = None if depth == 18 else 2
    cfg = dict(depth=depth, base_channels=8, expansion=expansion)
    host = ResNet(**cfg, out_indices=(0, 1, 2, 3))
    host.eval()
    module = ResNetStage(**cfg, stage=stage).eval()
    missing, _ = module.load_state_dict(host.state_dict(), strict=False)
    assert not missing
    inputs = {}
    layer = getattr(host, f'layer{stage}')
    layer.register_forward_pre_hook(lambda _, args: inputs.update(x=args[0]))
    expected = host(torch.randn(2, 3, 64, 64))[stage - 1]
    assert torch.equal(module(inputs['x'])[0], expected)
    assert module.out_channels == expected.shape[1]


def test_a_stage_of_another_stride_or_input() -> None:
    module = ResNetStage(50, base_channels=4, expansion=2, in_channels=6, stride=1)
    assert module(torch.randn(2, 6, 7, 7))[0].shape == (2, 64, 7, 7)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=20), r'depth must be one of \[18, 34, 50, 101, 152\], got 20'),
        (dict(depth=18, stage=5), r'stage must be one of \[1, 2, 3, 4\], got 5'),
        (dict(depth=18, stride=0), 'stride must be an integer >= 1, got 0'),
        (dict(depth=18, in_channels=0), 'in_channels must be an integer >= 1, got 0'),
    ],
)
def test_bad_stages(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNetStage(**arguments)


# --- in classifiers ---------------------------------------------------------------


def test_both_parts_serve_as_an_encoders_body() -> None:
    for body, channels in (
        (dict(type='WideResNetBlocks', blocks=(3,), **TINY), 8),
        (dict(type='ResNetStage', depth=18, base_channels=4), 16),
    ):
        encoder = GaussianEncoder(body=body, latent_dim=5)
        latent = encoder(torch.randn(2, channels, 8, 8), 3)
        assert latent.samples.shape == (3, 2, 5)


NARROW = {
    'backbone.base_channels': 8,
    'neck.in_channels': 64,
    'neck.mean_branch.base_channels': 8,
    'head.encoder.body.base_channels': 8,
    'head.num_classes': 10,
}


@pytest.mark.parametrize(
    ('name', 'overrides', 'size'),
    [
        ('wrn16-narrow_aib_qt_digitscenes', {}, 32),
        ('wrn50-2_aib_qt_cub', NARROW, 64),
    ],
)
def test_the_map_is_as_large_as_the_features_and_every_parameter_learns(
    name: str, overrides: dict, size: int
) -> None:
    overrides = {f'model.{key}': value for key, value in overrides.items()}
    model = classifier(name, **overrides)
    model.init_weights()
    batch = random_batch(4, (size, size), 10)
    images = torch.stack(batch['inputs']).float() / 64 - 2
    features = model.backbone(images)
    attended = model.neck(features)
    size = 16 if size == 32 else size // 16
    assert features[0].shape[-2:] == (size, size)
    assert attended.attention[0].mean.shape == (4, 1, size, size)
    model.parse_losses(model(images, batch['data_samples'], mode='loss'))[0].backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize('name', ['wrn28-10_aib_cifar10', 'wrn50-2_aib_cub'])
def test_the_scores_do_not_saturate_at_the_start(name: str) -> None:
    """Drawn with the fan out of one channel, the last conv would give 0 and 1."""
    neck = dict(Config.fromfile(CONFIGS / f'{name}.py').model.neck)
    wide = neck['in_channels']
    neck['mean_branch'] = None  # its output: batch-normalised, without the negative
    module = MODELS.build(neck)
    module.init_weights()
    scores = module((torch.randn(2, wide, 14, 14).clamp(min=0),)).attention[0].mean
    assert scores.min() > 0.02 and scores.max() < 0.98


def test_the_recipe_for_cifar() -> None:
    cfg = Config.fromfile(CONFIGS / 'wrn28-10_aib_qt_cifar10.py')
    quantizer = MODELS.build(cfg.model.neck.quantizer)
    model = torch.nn.ModuleDict(dict(quantizer=quantizer, fc=torch.nn.Linear(2, 2)))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {p: g for g in wrapper.optimizer.param_groups for p in g['params']}
    anchors, weight = groups[model.quantizer.anchors], groups[model.fc.weight]
    assert len(model.quantizer.anchors) == 50
    assert (anchors['weight_decay'], weight['weight_decay']) == (0, 5e-4)
    (scheduler,) = (
        PARAM_SCHEDULERS.build(dict(s, optimizer=wrapper)) for s in cfg.param_scheduler
    )
    rates = []
    for _ in range(cfg.train_cfg.max_epochs):
        rates.append((anchors['lr'], weight['lr']))
        wrapper.optimizer.step()
        scheduler.step()
    for epoch, rate in ((0, 0.1), (59, 0.1), (60, 0.03), (120, 0.009), (199, 0.0027)):
        assert rates[epoch] == pytest.approx((rate, rate)), epoch


# --- cost of the full-size models -------------------------------------------------

# Parameters in millions, giga multiply-accumulates of one pass and at L_a = L_z = 4.
COST = {
    'wrn28-10_cifar10': (36.48, 5.243, None),
    'wrn28-10_cifar100': (36.54, 5.243, None),
    'wrn28-10_aib_cifar10': (65.01, 12.377, 17.726),
    'wrn28-10_aib_cifar100': (65.05, 12.377, 17.727),
    'wrn28-10_aib_qt_cifar10': (65.01, 12.377, 17.726),
    'wrn28-10_aib_released_cifar10': (65.00, 12.376, 17.726),
    'wrn28-10_aib_light_cifar10': (37.88, 5.435, 10.785),
    'vgg16_cub': (135.08, 15.467, None),
    'vgg16_aib_cub': (15.10, 15.349, 15.351),
    'vgg16_aib_qt_cub': (15.10, 15.349, 15.351),
    'wrn50-2_cub': (67.24, 11.396, None),
    'wrn50-2_aib_cub': (110.00, 19.623, 26.256),
    'wrn50-2_aib_qt_cub': (110.00, 19.623, 26.256),
}


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights do not matter here, and drawing them takes most of the time."""
    for name in ('kaiming_uniform_', 'uniform_'):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


QUICK = ('wrn28-10_cifar10', 'wrn28-10_aib_cifar10', 'vgg16_aib_cub', 'wrn50-2_aib_cub')


@pytest.mark.parametrize(
    'name',
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in COST],
)
@pytest.mark.usefixtures('undrawn')
def test_multiply_accumulates_and_parameters(name: str) -> None:
    """On torch's "meta" device, which computes shapes alone."""
    parameters, single, sampled = COST[name]
    model = classifier(name).eval()
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(parameters, abs=0.0051)
    if sampled and model.neck.quantizer is not None:
        model.neck.quantizer = None  # multiplies nothing, and not for "meta"
    model.to('meta')
    size = 224 if name.endswith('_cub') else 32
    image = torch.randn(1, 3, size, size, device='meta')

    def giga_macs(run) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run(image)
        return counter.get_total_flops() / 2e9

    assert giga_macs(model) == pytest.approx(single, abs=0.0006)
    if sampled:
        samples = giga_macs(lambda x: predict_on_meta(model, x))
        assert samples == pytest.approx(sampled, abs=0.0006)


def predict_on_meta(model: torch.nn.Module, image: Tensor) -> None:
    """What ``mode='predict'`` computes, up to the class, which is a value."""
    (attended,) = model.neck(model.backbone(image)).samples
    assert len(attended) == model.neck.test_samples == 4
    latent = model.head.encoder(attended, model.head.test_samples)
    assert model.head.decoder(latent.samples).shape[:2] == (4, 4)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['wrn28-10_aib_qt_cifar10', 'wrn50-2_aib_qt_cub'])
def test_the_cost_is_that_of_a_real_prediction(name: str) -> None:
    model = classifier(name).eval()
    size = 224 if name.endswith('_cub') else 32
    with (
        record_attention(model) as record,
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        model(torch.randn(1, 3, size, size), mode='predict')
    macs = counter.get_total_flops() / 2e9
    assert macs == pytest.approx(COST[name][2], abs=0.0006)
    side = 14 if size == 224 else 16
    ((maps,),) = record['neck']
    assert maps.mean.shape == (1, 1, side, side)
