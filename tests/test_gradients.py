"""Every shipped config: one training step gives every parameter a finite gradient.

As ``DistributedDataParallel(find_unused_parameters=False)`` needs, for batches without
objects and crops whose pixels are all ignored too: there the loss of such a batch still
reaches every parameter, with zeros.
"""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from aib_mm.hooks import AIBLossHook

CONFIGS = Path(__file__).parents[1] / 'configs'
# Of each host: our folder, and the batches that its loader can hand over.
HOSTS = {
    'mmpretrain': ('classification', ['labelled']),
    'mmdet': ('detection', ['labelled', 'without objects']),
    'mmseg': ('segmentation', ['labelled', 'all ignored']),
}
IGNORED = 255


def _is_large(name: str) -> bool:
    """A step takes seconds, or gigabytes; of the full-size VGG one set is enough."""
    return 'narrow' not in name and not (
        name.startswith('vgg16') and name.endswith('_cifar10')
    )


CASES = [
    pytest.param(
        host,
        path,
        batch,
        marks=[pytest.mark.slow] if _is_large(path.stem) else [],
        id=f'{path.stem}-{batch}',
    )
    for host, (_, batches) in HOSTS.items()
    for path in sorted((CONFIGS / host).glob('*.py'))
    for batch in batches
]


def image_size(host: str, name: str) -> int:
    if host == 'mmpretrain':
        return 224 if name.endswith('_cub') else 32
    return 96 if host == 'mmdet' else 64


def built(cfg: Config, size: int) -> nn.Module:
    """The config's model as the Runner makes it, without downloads, in training."""
    if cfg.get('data_preprocessor') is not None:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    cfg.model.backbone.init_cfg = None
    if cfg.default_scope == 'mmseg':
        cfg.model.pretrained = None
        cfg.model.data_preprocessor.size = (size, size)
        if 'img_size' in cfg.model.backbone:
            cfg.model.backbone.img_size = (size, size)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
    for module in model.modules():
        if type(module).__name__ == 'DropPath':
            module.drop_prob = 0.0  # else a layer may be left out
    if any(hook.type == 'AIBLossHook' for hook in cfg.get('custom_hooks') or []):
        AIBLossHook().before_train(SimpleNamespace(model=model))
    return model.train()


def a_batch(cfg: Config, size: int, kind: str) -> dict[str, list]:
    folder, _ = HOSTS[cfg.default_scope]
    random_batch = import_module(f'aib_mm.{folder}.random_batch').random_batch
    settings = {}
    if folder == 'segmentation':
        classes = cfg.model.decode_head.num_classes
    else:
        classes = 10
        if kind == 'without objects':
            settings = dict(objects=0)
    data = random_batch(2, (size, size), num_classes=classes, **settings)
    if kind == 'all ignored':
        for sample in data['data_samples']:
            sample.gt_sem_seg.data.fill_(IGNORED)
    return data


@pytest.mark.parametrize(('host', 'path', 'kind'), CASES)
def test_every_parameter_gets_a_finite_gradient(
    host: str, path: Path, kind: str
) -> None:
    pytest.importorskip(host)
    cfg = Config.fromfile(path)
    size = image_size(host, path.stem)
    model = built(cfg, size)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    with DefaultScope.overwrite_default_scope(host):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
        data = model.data_preprocessor(a_batch(cfg, size, kind), True)
        losses = model(**data, mode='loss')
    assert '_qt' not in path.stem or any('loss_vq' in key for key in losses)
    if host != 'mmdet':  # whose single-stage heads have no latent
        assert any('loss_kl' in key for key in losses) >= ('_aib' in path.stem)
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
    optimizer.step()
    for key, parameter in model.named_parameters():
        assert parameter.isfinite().all(), key
        if host == 'mmpretrain':
            assert not torch.equal(parameter, before[key]), key
