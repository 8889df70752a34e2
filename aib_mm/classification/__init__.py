"""Parts for mmpretrain; the only folder that imports it."""

from aib_mm.classification.aib_cls_head import AIBClsHead
from aib_mm.classification.cub import CropToBox, CUBWithBoxes
from aib_mm.classification.digit_scenes import DigitScenes
from aib_mm.classification.resnet_stage import ResNetStage
from aib_mm.classification.rivals import (
    ABNHead,
    CAMHead,
    LocalAttention,
    ProgressiveAttention,
)
from aib_mm.classification.stl10 import STL10
from aib_mm.classification.svhn import SVHN
from aib_mm.classification.vgg import VGGBlocks
from aib_mm.classification.wide_resnet import WideResNetBlocks

__all__ = [
    'STL10',
    'SVHN',
    'ABNHead',
    'AIBClsHead',
    'CAMHead',
    'CUBWithBoxes',
    'CropToBox',
    'DigitScenes',
    'LocalAttention',
    'ProgressiveAttention',
    'ResNetStage',
    'VGGBlocks',
    'WideResNetBlocks',
]
