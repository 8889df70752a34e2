"""A narrow detector with random weights, and what its tests feed it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from aib_mm.detection.random_batch import random_batch, random_boxes

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmdet'
NARROW = CONFIGS / 'faster_rcnn_r18-narrow_aib_qt_digitscenes.py'
SIZE = 96


def build(cfg: Config | Path, **changes: Any) -> nn.Module:
    """The model of a config with random weights, changes as for ``--cfg-options``."""
    cfg = Config.fromfile(cfg) if isinstance(cfg, Path) else deepcopy(cfg)
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    cfg.model.backbone.init_cfg = None
    if cfg.model.backbone.type == 'ResNet':
        # With the last norm of each block at zero, most of it would get no gradient.
        cfg.model.backbone.zero_init_residual = False
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def without_latents(cfg: Config) -> Config:
    """A config of ours with the host's box head in the place of ours."""
    head = cfg.model.roi_head.bbox_head
    for key in ('aib_loss', 'train_samples', 'test_samples'):
        del head[key]
    head.type = 'Shared2FCBBoxHead'
    return cfg


def batch(images: int = 2, objects: int = 2) -> dict[str, list]:
    return random_batch(images, (SIZE, SIZE), num_classes=10, objects=objects)


def prepared(model: nn.Module, data: dict[str, list], training: bool) -> dict:
    model.train(training)
    return model.data_preprocessor(deepcopy(data), training)


def losses_of(model: nn.Module, data: dict[str, list]) -> dict[str, Tensor]:
    losses = model(**prepared(model, data, training=True), mode='loss')
    return {key: sum(v) if isinstance(v, list) else v for key, v in losses.items()}


def proposals(count: int = 12) -> InstanceData:
    generator = torch.Generator().manual_seed(1)
    boxes = random_boxes(count, (SIZE, SIZE), generator)
    return InstanceData(bboxes=boxes, scores=torch.ones(count))


def strong_noise(model: nn.Module) -> None:
    """Stds that matter: 0.7 on the maps, and different ones in the latents."""
    for branch in model.neck.branches:
        branch.std_conv.bias.data.fill_(5.0)
    for head in model.roi_head._bbox_heads():
        for layer in head.latents.values():
            layer.std.weight.data.normal_(std=0.1)
            layer.std.bias.data.fill_(5.0)
        head.fc_cls.weight.data.mul_(20)
