"""One stage of mmpretrain's VGG, for attention between stages."""

from collections import OrderedDict

from mmengine.model import BaseModule
from mmpretrain.models.backbones import VGG
from mmpretrain.models.backbones.vgg import make_vgg_layer
from mmpretrain.registry import MODELS as HOST_MODELS
from torch import Tensor, nn

from aib_mm.classification.backbones import KAIMING
from aib_mm.registry import MODELS


@HOST_MODELS.register_module()
@MODELS.register_module()
class VGGStage(BaseModule):
    """Stage 1 to 5 of the host's ``VGG``, alone and without its pool.

    Its layers have the names they have in the host's backbone, ``features.14`` and so
    on for stage 4 of VGG16, so that weights of a whole backbone load into it.

    Args:
        depth: layers of the whole network, one that the host's ``VGG`` has.
        stage: number, from 1.
        norm_cfg: config of the norm after each conv; the host has none by default.

    Raises:
        ValueError: a depth or stage that does not exist.
    """

    def __init__(
        self,
        depth: int,
        stage: int,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or KAIMING)
        if depth not in VGG.arch_settings:
            raise ValueError(
                f'depth must be one of {list(VGG.arch_settings)}, got {depth!r}'
            )
        if stage not in range(1, 6):
            raise ValueError(f'stage must be one of [1, 2, 3, 4, 5], got {stage!r}')
        counts = VGG.arch_settings[depth]
        channels = [3, *(min(64 * 2**i, 512) for i in range(5))]
        self.out_channels = channels[stage]
        layers = make_vgg_layer(
            channels[stage - 1], self.out_channels, counts[stage - 1], norm_cfg=norm_cfg
        )
        # Each stage before has a pool besides its convs.
        first = sum(count + 1 for count in counts[: stage - 1])
        self.features = nn.Sequential(
            OrderedDict((str(first + i), conv) for i, conv in enumerate(layers[:-1]))
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """``(N, C, H, W)`` to one map ``(N, out_channels, H, W)``."""
        return (self.features(x),)
