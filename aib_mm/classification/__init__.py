"""Parts for mmpretrain; the only folder that imports it."""

from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from mmpretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS

from aib_mm.classification.backbones.resnet_stage import ResNetStage
from aib_mm.classification.backbones.vgg import VGGBlocks
from aib_mm.classification.backbones.vgg_stage import VGGStage
from aib_mm.classification.backbones.wide_resnet import WideResNetBlocks
from aib_mm.classification.datasets.cub import CropToBox, CUBWithBoxes
from aib_mm.classification.datasets.digit_scenes import DigitScenes
from aib_mm.classification.datasets.optional_loading import (
    LoadImageIfFile,
    LoadMaskAnnotations,
)
from aib_mm.classification.datasets.stl10 import STL10
from aib_mm.classification.datasets.svhn import SVHN
from aib_mm.classification.heads.aib_cls_head import AIBClsHead
from aib_mm.classification.rivals import (
    ABNHead,
    CAMHead,
    LocalAttention,
    ProgressiveAttention,
)
from aib_mm.training.anchor_decay import spare_anchors

__all__ = [
    'STL10',
    'SVHN',
    'ABNHead',
    'AIBClsHead',
    'CAMHead',
    'CUBWithBoxes',
    'CropToBox',
    'DigitScenes',
    'LoadImageIfFile',
    'LoadMaskAnnotations',
    'LocalAttention',
    'ProgressiveAttention',
    'ResNetStage',
    'VGGBlocks',
    'VGGStage',
    'WideResNetBlocks',
]

spare_anchors(OPTIM_WRAPPER_CONSTRUCTORS, LearningRateDecayOptimWrapperConstructor)
