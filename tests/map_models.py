"""Small classifiers of random weights for the tools that measure maps."""

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

TINY = Path(__file__).with_name('tiny_classifier.py')
AIB = """
model = dict(
    neck=dict(_delete_=True, type='AIBAttention', in_channels=32, std_shift=0.0),
    head=dict(
        _delete_=True,
        type='AIBClsHead',
        num_classes=10,
        latent_dim=8,
        encoder=dict(type='GaussianEncoder', in_features=32, std_shift=0.0),
    ),
)
"""


def write_models(folder: Path, configs: Mapping[str, str]) -> None:
    """Configs over the tiny classifier, and two checkpoints of each.

    ``configs`` are texts by name; ``NAME.py``, ``NAME0.pth`` and ``NAME1.pth`` are
    written.
    """
    for name, text in configs.items():
        config = folder / f'{name}.py'
        config.write_text(f'_base_ = {str(TINY)!r}\n{text}')
        for number in (0, 1):
            torch.manual_seed(number)
            state = dict(state_dict=build(config).state_dict())
            torch.save(state, folder / f'{name}{number}.pth')


def build(config: Path) -> nn.Module:
    """With weights that tell images apart, and no map that is all at one place."""
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # Without a mean, else all images get one class; and of a size that keeps
            # values from growing layer by layer: scores in their hundreds show the
            # rounding of one machine in every figure.
            weight = torch.randn_like(module.weight).flatten(1)
            weight -= weight.mean(dim=1, keepdim=True)
            gain = 1.0 if len(weight) == 1 else 2**0.5
            std = gain / weight.shape[1] ** 0.5
            module.weight.data = (std * weight).view_as(module.weight)
    return model
