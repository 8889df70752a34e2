"""Other people's attention, for the comparison of the paper's Table 5.

Each is from its own paper, on the blocks that the rest of the comparison stands on, and
each with its maps where those of ``AIBAttention`` are: in ``WithAttention``.
"""

from aib_mm.classification.rivals.abn_head import ABNBranch, ABNHead
from aib_mm.classification.rivals.cam_head import CAMHead, ClassActivation
from aib_mm.classification.rivals.local_attention import LocalAttention
from aib_mm.classification.rivals.progressive_attention import ProgressiveAttention

__all__ = [
    'ABNBranch',
    'ABNHead',
    'CAMHead',
    'ClassActivation',
    'LocalAttention',
    'ProgressiveAttention',
]
