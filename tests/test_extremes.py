"""Extreme images and features: whatever is finite going in is finite coming out."""

from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from aib_mm.attention import AIBAttention
from aib_mm.encoders import GaussianEncoder
from aib_mm.losses import AIBLoss
from aib_mm.modulation import MODULATIONS

CONFIGS = Path(__file__).parents[1] / 'configs'

# Of each host: our folder, a narrow model, its images' side in pixels.
MODELS_OF_HOSTS = {
    'mmpretrain': ('classification', 'vgg16-narrow_aib_qt_digitscenes.py', 32),
    'mmdet': ('detection', 'faster_rcnn_r18-narrow_aib_qt_digitscenes.py', 64),
    'mmseg': ('segmentation', 'upernet_beit-narrow_aib_qt_digitscenes.py', 64),
}

IMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    'zeros': torch.zeros_like,
    '1e4': lambda x: torch.full_like(x, 1e4),
    '-1e4': lambda x: torch.full_like(x, -1e4),
    'noise of 1e4': lambda x: 1e4 * torch.randn_like(x),
}


def build(host: str, config: str) -> nn.Module:
    cfg = Config.fromfile(CONFIGS / host / config)
    with DefaultScope.overwrite_default_scope(host):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def a_batch(folder: str, images: int, size: tuple[int, int]) -> dict[str, Any]:
    module = import_module(f'aib_mm.{folder}.random_batch')
    classes = 11 if folder == 'segmentation' else 10
    return module.random_batch(images, size, num_classes=classes)


def values(node: Any) -> list[Tensor]:
    """Every floating tensor of losses, of predictions or of nested containers."""
    if isinstance(node, Tensor):
        return [node] if node.is_floating_point() else []
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list | tuple):
        return [value for item in node for value in values(item)]
    if isinstance(node, InstanceData):
        return [value for _, item in node.items() for value in values(item)]
    if hasattr(node, 'all_items'):
        return [value for _, item in node.all_items() for value in values(item)]
    return []


def assert_finite(tensors: list[Tensor]) -> None:
    assert tensors
    assert all(tensor.isfinite().all() for tensor in tensors)


def step(model: nn.Module, prepared: dict[str, Any]) -> None:
    """One training pass: finite losses, and finite gradients where there are any."""
    losses = model(**prepared, mode='loss')
    terms = values({key: value for key, value in losses.items() if 'loss' in key})
    assert_finite(terms)
    torch.stack([term.sum() for term in terms]).sum().backward()
    assert_finite([p.grad for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize('image', IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize('host', MODELS_OF_HOSTS)
def test_extreme_pixels_train_and_predict(
    host: str, image: Callable[[Tensor], Tensor]
) -> None:
    pytest.importorskip(host)
    folder, config, side = MODELS_OF_HOSTS[host]
    model = build(host, config)
    data = a_batch(folder, 2, (side, side))
    with DefaultScope.overwrite_default_scope(host):
        for training in (True, False):
            model.train(training)
            prepared = model.data_preprocessor(deepcopy(data), training)
            prepared['inputs'] = image(prepared['inputs'].float())
            if training:
                step(model, prepared)
            else:
                with torch.no_grad():
                    found = model(**prepared, mode='predict')
                assert len(found) == 2
                scored = [values(sample) for sample in found]
                assert_finite([value for sample in scored for value in sample])


@pytest.mark.parametrize('size', [(64, 96), (37, 53), (33, 64)])
def test_a_detector_takes_one_image_of_any_size(size: tuple[int, int]) -> None:
    pytest.importorskip('mmdet')
    folder, config, _ = MODELS_OF_HOSTS['mmdet']
    model = build('mmdet', config)
    data = a_batch(folder, 1, size)
    with DefaultScope.overwrite_default_scope('mmdet'):
        step(model.train(), model.data_preprocessor(deepcopy(data), True))
        with torch.no_grad():
            (found,) = model.eval()(
                **model.data_preprocessor(data, False), mode='predict'
            )
    assert_finite([found.pred_instances.scores, found.pred_instances.bboxes])


@pytest.mark.parametrize('scale', [0.0, 1e4, -1e4])
@pytest.mark.parametrize('size', [(1, 1), (1, 7), (5, 3)])
@pytest.mark.parametrize('modulation', MODULATIONS)
def test_extreme_features_through_attention_latent_and_losses(
    modulation: str, size: tuple[int, int], scale: float
) -> None:
    neck = AIBAttention(
        4,
        modulation=modulation,
        std_kernel_size=3,
        quantizer=dict(type='VQAnchorQuantizer'),
    )
    encoder = GaussianEncoder(
        in_features=neck.modulations[0].out_channels, latent_dim=6
    )
    x = (scale * torch.ones(1, 4, *size)).requires_grad_()
    attended = neck((x,))
    latent = encoder(attended[-1], 1)
    losses = AIBLoss()(latent, attended.take_losses())
    total = latent.samples.mean() + sum(v for k, v in losses.items() if 'loss' in k)
    total.backward()
    parameters = [*neck.parameters(), *encoder.parameters()]
    assert_finite([total, x.grad, *(p.grad for p in parameters if p.grad is not None)])
