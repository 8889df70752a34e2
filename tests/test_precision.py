"""Mixed precision: near float32 in one step, and no NaN in two hundred.

Weights and noise are the same: the noise is drawn in float32 under autocast too.
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from aib_mm.attention import AIBAttention
from aib_mm.encoders import GaussianEncoder
from aib_mm.interpret import record_attention
from aib_mm.losses import AIBLoss
from aib_mm.modulation import MODULATIONS

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmpretrain'
NARROW = [
    'vgg16-narrow_aib_digitscenes',
    'vgg16-narrow_aib_qt_digitscenes',
    'wrn16-narrow_aib_qt_digitscenes',
]
CPU = pytest.param('cpu', 'bfloat16', id='cpu-bfloat16')
GPU = [
    pytest.param(
        'cuda',
        dtype,
        id=f'cuda-{dtype}',
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason='no GPU on this machine'
        ),
    )
    for dtype in ('bfloat16', 'float16')
]
ATTENTION, LOSS = 2e-2, 2e-2  # absolute; relative
STEPS = 200


def classifier(name: str, device: str) -> tuple[nn.Module, Config]:
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
        model.init_weights()
    return model.to(device), cfg


def a_batch(images: int) -> dict[str, list]:
    from aib_mm.classification.random_batch import random_batch

    return random_batch(images, (32, 32), num_classes=10)


def a_step(
    model: nn.Module, device: str, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Attention and loss of one training step with the noise of seed 0; gradients."""
    torch.manual_seed(0)
    model.zero_grad()
    data = model.data_preprocessor(a_batch(8), True)
    with (
        record_attention(model) as record,
        torch.autocast(device, dtype=dtype, enabled=dtype is not None),
    ):
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    ((maps,),) = next(iter(record.values()))
    gradients = {key: value.grad for key, value in model.named_parameters()}
    return maps.mean, loss, gradients


@pytest.mark.parametrize('name', NARROW)
@pytest.mark.parametrize(('device', 'dtype'), [CPU, *GPU])
def test_a_step_is_near_that_of_float32(name: str, device: str, dtype: str) -> None:
    pytest.importorskip('mmpretrain')
    model, _ = classifier(name, device)
    exact, loss, _ = a_step(model, device, None)
    found, mixed, gradients = a_step(model, device, getattr(torch, dtype))
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < ATTENTION
    assert mixed.item() == pytest.approx(loss.item(), rel=LOSS)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize('quantised', [False, True], ids=['aib', 'qt'])
@pytest.mark.parametrize('modulation', MODULATIONS)
@pytest.mark.parametrize(('device', 'dtype'), [CPU, *GPU])
def test_the_modules_are_near_float32(
    modulation: str, quantised: bool, device: str, dtype: str
) -> None:
    quantizer = dict(type='VQAnchorQuantizer', num_anchors=4) if quantised else None
    neck = AIBAttention(8, modulation=modulation, quantizer=quantizer).to(device)
    features = neck.modulations[0].out_channels
    encoder = GaussianEncoder(in_features=features, latent_dim=6).to(device)
    terms = AIBLoss().to(device)
    x = torch.randn(4, 8, 6, 6, device=device)

    def run(dtype: torch.dtype | None) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(0)
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            attended = neck((x,))
            losses = terms(encoder(attended.samples[0], 1), attended.take_losses())
        return attended.attention[0].mean, losses

    exact, expected = run(None)
    found, losses = run(getattr(torch, dtype))
    assert 0 < (found - exact).abs().max() < ATTENTION
    for key, value in expected.items():
        assert losses[key].dtype == torch.float32
        assert losses[key].item() == pytest.approx(value.item(), rel=LOSS), key


@pytest.mark.slow
@pytest.mark.parametrize('name', NARROW)
@pytest.mark.parametrize(('device', 'dtype'), [CPU, *GPU])
def test_two_hundred_steps_have_no_nan(name: str, device: str, dtype: str) -> None:
    pytest.importorskip('mmpretrain')
    model, cfg = classifier(name, device)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    if device == 'cuda':
        scale = 'dynamic' if dtype == 'float16' else 1.0
        wrapper = AmpOptimWrapper(scale, dtype, optimizer=wrapper.optimizer)
    model.train()
    data = a_batch(16)
    losses = []
    for _ in range(STEPS):
        # On the CPU mmengine's wrapper for mixed precision wants a GPU too.
        with torch.autocast(device, dtype=getattr(torch, dtype)):
            losses.append(model.train_step(data, wrapper)['loss'].item())
    assert torch.tensor(losses).isfinite().all()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert losses[-1] < losses[0]
