"""Parts for mmseg; the only folder that imports it."""

from aib_mm.segmentation.decode_heads import (
    AIBDecodeHead,
    AIBFCNHead,
    AIBPSPHead,
    AIBSegformerHead,
    GaussianDecodeHead,
)
from aib_mm.segmentation.gaussian_conv import GaussianConv

__all__ = [
    'AIBDecodeHead',
    'AIBFCNHead',
    'AIBPSPHead',
    'AIBSegformerHead',
    'GaussianConv',
    'GaussianDecodeHead',
]
