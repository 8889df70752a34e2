"""Parts for mmseg; the only folder that imports it."""

from mmseg.engine.optimizers import ForceDefaultOptimWrapperConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

from aib_mm.segmentation.decode_heads import (
    AIBDecodeHead,
    AIBFCNHead,
    AIBPSPHead,
    AIBSegformerHead,
    GaussianDecodeHead,
)
from aib_mm.segmentation.gaussian_conv import GaussianConv
from aib_mm.training.anchor_decay import spare_anchors

__all__ = [
    'AIBDecodeHead',
    'AIBFCNHead',
    'AIBPSPHead',
    'AIBSegformerHead',
    'GaussianConv',
    'GaussianDecodeHead',
]

spare_anchors(OPTIM_WRAPPER_CONSTRUCTORS, ForceDefaultOptimWrapperConstructor)
