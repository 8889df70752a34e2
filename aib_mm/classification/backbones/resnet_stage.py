"""One stage of mmpretrain's ResNet, for the attention branch and the encoder."""

from mmengine.model import BaseModule
from mmpretrain.models.backbones import ResNet
from mmpretrain.models.backbones.resnet import ResLayer, get_expansion
from mmpretrain.registry import MODELS as HOST_MODELS
from torch import Tensor

from aib_mm.classification.backbones import KAIMING
from aib_mm.errors import check_count
from aib_mm.registry import MODELS


@HOST_MODELS.register_module()
@MODELS.register_module()
class ResNetStage(BaseModule):
    """Stage 1 to 4 of the host's ``ResNet``, alone: the paper's Table 4 calls it block.

    Its layer has the name it has in the host's backbone, ``layer4`` for stage 4, and
    the same parameters, so that weights of a whole backbone load into it.

    Args:
        depth: layers of the whole network, one that the host's ``ResNet`` has.
        stage: number, from 1.
        base_channels: middle channels of stage 1; 128 for a wide ResNet-50-2.
        expansion: output over middle channels of a block; 2 for a wide ResNet-50-2.
        in_channels: channels of x, by default the stage before's. To be set after a
            modulation that concatenates.
        stride: stride of the first residual block, by default the network's own: 1 for
            stage 1, else 2. The attention branch's has 1, to keep the map's size.

    Raises:
        ValueError: a depth, stage or number that does not exist.
    """

    def __init__(
        self,
        depth: int,
        stage: int = 4,
        base_channels: int = 64,
        expansion: int | None = None,
        in_channels: int | None = None,
        stride: int | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or KAIMING)
        if depth not in ResNet.arch_settings:
            raise ValueError(
                f'depth must be one of {list(ResNet.arch_settings)}, got {depth!r}'
            )
        if stage not in range(1, 5):
            raise ValueError(f'stage must be one of [1, 2, 3, 4], got {stage!r}')
        for name, value in (
            ('base_channels', base_channels),
            ('in_channels', in_channels),
            ('stride', stride),
        ):
            if value is not None:
                check_count(name, value, 1)
        block, counts = ResNet.arch_settings[depth]
        expansion = get_expansion(block, expansion)
        self.name = f'layer{stage}'
        self.out_channels = base_channels * expansion * 2 ** (stage - 1)
        before = 64 if stage == 1 else self.out_channels // 2
        layer = ResLayer(
            block,
            counts[stage - 1],
            in_channels or before,
            self.out_channels,
            expansion=expansion,
            stride=stride or (1 if stage == 1 else 2),
        )
        self.add_module(self.name, layer)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """``(N, in_channels, H, W)`` to one map ``(N, out_channels, H', W')``."""
        return (getattr(self, self.name)(x),)
