"""The configs of ``configs/``, and their models as a Runner makes them."""

from pathlib import Path
from types import SimpleNamespace

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from aib_mm.hooks import AIBLossHook
from aib_mm.utils.configs import hooks_of

CONFIGS = Path(__file__).parents[1] / 'configs'
#: Host -> aib_mm's folder for it.
FOLDERS = dict(mmpretrain='classification', mmdet='detection', mmseg='segmentation')
PATHS = [path for host in FOLDERS for path in sorted((CONFIGS / host).glob('*.py'))]


def is_large(name: str) -> bool:
    """Whether a step takes seconds or gigabytes; of full-size VGG one set is enough."""
    return 'narrow' not in name and not (
        name.startswith('vgg16') and name.endswith('_cifar10')
    )


def image_size(path: Path) -> int:
    """Side of an image that the config's model takes, small where it can be."""
    if path.parent.name == 'mmpretrain':
        return 224 if path.stem.endswith('_cub') else 32
    return 96 if path.parent.name == 'mmdet' else 64


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
    for hook in hooks_of(cfg):
        if hook.type == 'AIBLossHook':
            AIBLossHook().before_train(SimpleNamespace(model=model))
    return model.train()
