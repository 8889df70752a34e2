"""Configs, checkpoints with random weights and images for what looks at attention.

``write_model('mmdet', folder)`` gives the paths of a config and a checkpoint. Nothing
random is left in the prediction: ``L_a = L_z = 0``, unless samples are asked for.
"""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

CONFIGS = Path(__file__).parents[1] / 'configs'
SHIPPED = {
    'mmdet': 'faster_rcnn_r18-narrow_aib_qt_digitscenes.py',
    'mmseg': 'upernet_beit-narrow_aib_digitscenes.py',
}
CLASSIFIER = """
_base_ = [{base!r}]
model = dict(
    neck=dict(
        _delete_=True,
        type='AIBAttention',
        in_channels=32,
        quantizer=dict(type='VQAnchorQuantizer', num_anchors=5),
        test_samples={samples},
    ),
    head=dict(
        _delete_=True,
        type='AIBClsHead',
        num_classes=10,
        latent_dim=8,
        encoder=dict(type='GaussianEncoder', in_features=32),
        test_samples={samples},
    ),
)
"""
REST = """
_base_ = [{base!r}]
model = dict(
    neck=dict(test_samples={samples}),
    {head}=dict(test_samples={samples}),
)
"""


def write_model(scope: str, folder: Path, samples: int = 0) -> tuple[str, str]:
    """Config and checkpoint of a small model with attention, by host."""
    if scope == 'mmpretrain':
        base = Path(__file__).with_name('tiny_classifier.py')
        text = CLASSIFIER.format(base=str(base), samples=samples)
    else:
        base = CONFIGS / scope / SHIPPED[scope]
        head = 'roi_head' if scope == 'mmdet' else 'decode_head'
        text = REST.format(base=str(base), samples=samples, head=head)
    config = folder / f'{scope}.py'
    config.write_text(text)
    return str(config), write_weights(config)


def write_weights(config: Path) -> str:
    """Random weights that differ from those of another config or seed."""
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    # Without spread all positions and classes would be alike.
    for name, parameter in model.named_parameters():
        if name.endswith(('mean_conv.weight', 'fc.weight')):
            torch.nn.init.normal_(parameter, std=0.3)
    path = config.with_suffix('.pth')
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


def write_images(folder: Path, sizes: dict[str, tuple[int, int]]) -> list[str]:
    """Noise of the heights and widths given, by file name."""
    paths = []
    for seed, (name, (height, width)) in enumerate(sizes.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8)
        Image.fromarray(pixels.repeat(4, 0).repeat(4, 1)).save(path)
        paths.append(str(path))
    return paths
