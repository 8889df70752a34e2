"""VGG16 for small images, cut into extractor and encoder by configuration."""

from collections import OrderedDict
from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS as HOST_MODELS
from torch import Tensor, nn

from aib_mm.registry import MODELS

POOL = 'pool'

# Channels of the 3×3 convs of each block and where the 2×2 max pools are.
# Paper, Table 1 and 4.1.1: blocks 1 to 3 have no pool inside. The pool after block 3,
# which makes the map 16×16 at 32×32, and block 6 are the authors' released code; the
# multiply-accumulates of the paper's Table 3 (3.79 G) come out only with both.
BLOCKS: dict[int, tuple[int | str, ...]] = {
    1: (64, 64),
    2: (128, 128),
    3: (256, 256, 256, POOL),
    4: (512, 512, 512, POOL),
    5: (512, 512, 512, POOL),
    6: (512, POOL, 512, POOL),
}


@HOST_MODELS.register_module()
@MODELS.register_module()
class VGGBlocks(BaseModule):
    """Consecutive blocks of the paper's VGG16: conv 3×3, batch norm, ReLU, max pool.

    Blocks 1 to 3 are the feature extractor, 4 to 6 with ``pointwise`` the encoder's
    body, all of them the vanilla network.

    Args:
        blocks: which, consecutive, from 1 to 6.
        width: factor on all channels, rounded to whole channels.
        in_channels: by default what comes before the first block: 3, or the width of
            the block before. To be set after a modulation or noise that concatenates.
        pointwise: end with a 1×1 conv to 512 (× ``width``) channels and a ReLU.
        norm_cfg: of the 3×3 convs.

    Raises:
        ValueError: blocks that do not exist or are not consecutive, a width that leaves
            no channel.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (1, 2, 3, 4, 5, 6),
        width: float = 1.0,
        in_channels: int | None = None,
        pointwise: bool = False,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        blocks = list(blocks)
        if not blocks or blocks != list(range(blocks[0], blocks[0] + len(blocks))):
            raise ValueError(f'blocks must be consecutive numbers, got {blocks}')
        if not set(blocks) <= set(BLOCKS):
            raise ValueError(f'blocks must be among {list(BLOCKS)}, got {blocks}')
        if round(64 * width) < 1:
            raise ValueError(f'width must leave at least one channel, got {width!r}')
        norm_cfg = norm_cfg or dict(type='BN')
        channels = in_channels or _channels_before(blocks[0], width)
        # Named as in the VGG paper, so that a layer keeps its name wherever the cut is.
        layers: dict[str, nn.Module] = {}
        for block in blocks:
            for i, entry in enumerate(BLOCKS[block], start=1):
                if entry == POOL:
                    layers[f'pool{block}_{i}'] = nn.MaxPool2d(2)
                    continue
                out = round(int(entry) * width)
                layers[f'conv{block}_{i}'] = ConvModule(
                    channels, out, 3, padding=1, norm_cfg=norm_cfg
                )
                channels = out
        if pointwise:
            layers['pointwise'] = ConvModule(channels, round(512 * width), 1)
            channels = round(512 * width)
        self.layers = nn.Sequential(OrderedDict(layers))
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """``(N, in_channels, H, W)`` to one map ``(N, out_channels, H', W')``."""
        return (self.layers(x),)


def _channels_before(block: int, width: float) -> int:
    if block == 1:
        return 3
    return round(max(c for c in BLOCKS[block - 1] if c != POOL) * width)
