"""Parts for mmpretrain; the only folder that imports it."""

from aib_mm.classification.aib_cls_head import AIBClsHead
from aib_mm.classification.digit_scenes import DigitScenes
from aib_mm.classification.vgg import VGGBlocks

__all__ = ['AIBClsHead', 'DigitScenes', 'VGGBlocks']
