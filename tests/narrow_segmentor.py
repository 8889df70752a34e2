"""A narrow segmentor with random weights, and what its tests feed it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmseg'
VANILLA = CONFIGS / 'upernet_beit-narrow_digitscenes.py'
NARROW = CONFIGS / 'upernet_beit-narrow_aib_digitscenes.py'
NARROW_QT = CONFIGS / 'upernet_beit-narrow_aib_qt_digitscenes.py'
SIZE = 64


def build(cfg: Config | Path, size: int = SIZE, **changes: Any) -> nn.Module:
    """The model of a config with random weights, changes as for ``--cfg-options``."""
    cfg = Config.fromfile(cfg) if isinstance(cfg, Path) else deepcopy(cfg)
    cfg.model.pretrained = cfg.model.backbone.init_cfg = None
    cfg.model.data_preprocessor.size = (size, size)
    cfg.model.test_cfg = ConfigDict(mode='whole')
    if 'img_size' in cfg.model.backbone:
        cfg.model.backbone.img_size = (size, size)
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def batch(images: int = 2, size: int = SIZE, classes: int = 11) -> dict[str, list]:
    """Images as a data loader of mmseg hands them over; some pixels are ignored."""
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for _ in range(images):
        blocks = torch.randint(0, 256, (3, size // 16, size // 16), generator=generator)
        pixels = blocks.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
        inputs.append(pixels.to(torch.uint8))
        labels = torch.randint(0, classes, (1, size, size), generator=generator)
        labels[:, :10] = 255
        shape = dict(ori_shape=(size, size), img_shape=(size, size), img_path='a.png')
        sample = SegDataSample(metainfo=shape)
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def prepared(model: nn.Module, data: dict[str, list], training: bool) -> dict:
    model.train(training)
    return model.data_preprocessor(deepcopy(data), training)


def losses_of(model: nn.Module, data: dict[str, list]) -> dict[str, Tensor]:
    return model(**prepared(model, data, training=True), mode='loss')


def predicted(model: nn.Module, data: dict[str, list]) -> tuple[Tensor, Tensor]:
    """Logits ``(B, C, H, W)`` and labels ``(B, H, W)``."""
    with torch.no_grad():
        found = model(**prepared(model, data, training=False), mode='predict')
    logits = torch.stack([sample.seg_logits.data for sample in found])
    return logits, torch.cat([sample.pred_sem_seg.data for sample in found])


def strong_noise(model: nn.Module) -> None:
    """Stds that matter: 0.7 on the maps, and different ones in the latent."""
    for branch in model.neck.branches:
        branch.std_conv.bias.data.fill_(5.0)
    head = model.decode_head
    head.latent.std.weight.data.normal_(std=0.1)
    head.latent.std.bias.data.fill_(5.0)
    head.conv_seg.weight.data.mul_(20)
