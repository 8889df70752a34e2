"""Local features under attention (Jetley et al., 2018): VGG-att2 and VGG-att3."""

from collections.abc import Sequence

import torch
from mmengine.model import ModuleList
from mmpretrain.registry import MODELS as HOST_MODELS
from torch import Tensor, nn

from aib_mm.classification.rivals.maps import softmax_map, weighted_sum
from aib_mm.errors import check_count
from aib_mm.features import AttentionMaps, AttentionModule, WithAttention
from aib_mm.registry import MODELS


@HOST_MODELS.register_module()
@MODELS.register_module()
class LocalAttention(AttentionModule):
    """``g_s = sum_i a_i l_i`` of each level s, concatenated over the levels.

    "Learn to pay attention", section 3 and Fig. 2, in its variant *concat-pc*: with a
    host's linear head behind it this is the (VGG-att2)- or (VGG-att3)-concat-pc whose
    errors the AIB paper's Table 5 has. ``a`` is the softmax over positions of the
    parametrised compatibility ``c_i = <u, W l_i + g>``, where g is the global feature
    and W, where needed, maps the local feature to its dimension.

    Under the softmax ``<u, g>``, the same at all positions, cancels: neither the map
    nor the prediction depends on g, and its layers would have no gradient. They are
    therefore left out, and with them W, since ``<u, W l>`` is ``<W'u, l>``. What can be
    learned is the same.

    Args:
        in_channels: channels of the local features, per level.

    Raises:
        ValueError: no level; features that do not fit ``in_channels``.
    """

    def __init__(
        self, in_channels: Sequence[int], init_cfg: dict | list[dict] | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = list(in_channels)
        if not self.in_channels:
            raise ValueError('in_channels must name at least one level, got []')
        for channels in self.in_channels:
            check_count('in_channels', channels, 1)
        # No bias: the softmax would cancel it too.
        self.scores = ModuleList(
            nn.Conv2d(channels, 1, 1, bias=False) for channels in self.in_channels
        )
        self.out_channels = sum(self.in_channels)

    def forward(self, feats: Sequence[Tensor]) -> WithAttention:
        """Levels ``(B, C, H, W)`` to one ``(B, out_channels)``, with the maps.

        Raises:
            ValueError: levels or channels other than ``in_channels`` says.
        """
        channels = [x.shape[1] for x in feats]
        if channels != self.in_channels:
            raise ValueError(
                f'LocalAttention(in_channels={self.in_channels}) got features with '
                f'channels {channels}: set in_channels to those of the backbone, and '
                'its out_blocks to the levels'
            )
        maps = [
            softmax_map(score(x)) for x, score in zip(feats, self.scores, strict=True)
        ]
        local = [weighted_sum(a, x) for a, x in zip(maps, feats, strict=True)]
        return WithAttention(
            (torch.cat(local, dim=1),), [AttentionMaps.certain(a) for a in maps]
        )
