"""Every shipped config: one training step gives every parameter a finite gradient.

As ``DistributedDataParallel(find_unused_parameters=False)`` needs, for batches without
objects and crops whose pixels are all ignored too: there the loss of such a batch still
reaches every parameter, with zeros.
"""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from shipped_configs import FOLDERS, PATHS, built, image_size, is_large

# The batches that each host's loader can hand over.
BATCHES = {
    'mmpretrain': ['labelled'],
    'mmdet': ['labelled', 'without objects'],
    'mmseg': ['labelled', 'all ignored'],
}
IGNORED = 255


def _is_slow(name: str) -> bool:
    """The full-size VGGs differ as the narrow ones do."""
    return is_large(name) or (name.startswith('vgg16_') and '_aib_qt' not in name)


CASES = [
    pytest.param(
        path,
        batch,
        marks=[pytest.mark.slow] if _is_slow(path.stem) else [],
        id=f'{path.stem}-{batch}',
    )
    for path in PATHS
    for batch in BATCHES[path.parent.name]
]


def a_batch(cfg: Config, size: int, kind: str) -> dict[str, list]:
    folder = FOLDERS[cfg.default_scope]
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


@pytest.mark.parametrize(('path', 'kind'), CASES)
def test_every_parameter_gets_a_finite_gradient(path: Path, kind: str) -> None:
    host = path.parent.name
    pytest.importorskip(host)
    cfg, size = Config.fromfile(path), image_size(path)
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
