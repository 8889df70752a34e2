"""Progressive attention (Seo et al., 2018): VGG-PAN of the paper's Table 5."""

from collections.abc import Sequence

from mmengine.model import ModuleList
from mmpretrain.registry import MODELS as HOST_MODELS
from torch import Tensor, nn

from aib_mm.classification.rivals.maps import sigmoid_map, softmax_map, weighted_sum
from aib_mm.errors import check_count
from aib_mm.features import AttentionMaps, AttentionModule, WithAttention
from aib_mm.registry import MODELS, build_part


@HOST_MODELS.register_module()
@MODELS.register_module()
class ProgressiveAttention(AttentionModule):
    """Attention between stages, each of which sees what the attention before let pass.

    "Progressive Attention Networks for Visual Attribute Prediction", its section on the
    progressive attentive process. With levels ``l = 1 … L``, all positions alike::

        s_l = g_l(f_l)
        a_l = sigmoid(s_l), and for the last level softmax over positions
        f_(l+1) = stage_l(pool(a_l · f_l))
        f_att = sum over positions of a_L · f_L

    ``g_l`` sees a 3×3 neighbourhood (the paper's local context): a 3×3 conv, ReLU, and
    a 1×1 conv. The paper's queries, which say what attribute of which object is asked
    for, do not exist in classification.

    Args:
        in_channels: channels of the first level's features.
        stages: configs of what is between two levels; each has ``out_channels`` and
            comes after a 2×2 max pool.
        hidden_channels: channels between the two convs of each g. Our choice.

    Raises:
        ValueError: a number of channels that cannot be; features that do not fit.
    """

    feature_parts = ('stages',)

    def __init__(
        self,
        in_channels: int,
        stages: Sequence[dict],
        hidden_channels: int = 64,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_count('in_channels', in_channels, 1)
        check_count('hidden_channels', hidden_channels, 1)
        self.in_channels = in_channels
        self.stages = ModuleList(build_part(stage) for stage in stages)
        channels = [in_channels, *(stage.out_channels for stage in self.stages)]
        self.scores = ModuleList(
            _score(count, hidden_channels, last=level == len(self.stages))
            for level, count in enumerate(channels)
        )
        self.pool = nn.MaxPool2d(2)
        self.out_channels = channels[-1]

    def forward(self, feats: Sequence[Tensor]) -> WithAttention:
        """The last of the maps, ``(B, C, H, W)``, to ``f_att``, with all levels' maps.

        Returns:
            One tensor ``(B, out_channels)``.

        Raises:
            ValueError: channels other than ``in_channels``.
        """
        f = feats[-1]
        if f.shape[1] != self.in_channels:
            raise ValueError(
                f'ProgressiveAttention(in_channels={self.in_channels}) got features '
                f'with {f.shape[1]} channels: set in_channels to those of the backbone'
            )
        maps = []
        for stage, score in zip(self.stages, self.scores, strict=False):
            maps.append(sigmoid_map(score(f)))
            f = stage(self.pool(maps[-1].to(f.dtype) * f))[-1]
        maps.append(softmax_map(self.scores[-1](f)))
        return WithAttention(
            (weighted_sum(maps[-1], f),), [AttentionMaps.certain(a) for a in maps]
        )


def _score(channels: int, hidden: int, last: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=1),
        nn.ReLU(),
        # A softmax would cancel the last level's bias.
        nn.Conv2d(hidden, 1, 1, bias=not last),
    )
