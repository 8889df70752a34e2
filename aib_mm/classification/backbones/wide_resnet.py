"""WRN for small images, cut into extractor, attention branch and encoder by config."""

from collections import OrderedDict
from collections.abc import Sequence

from mmengine.model import BaseModule
from mmpretrain.registry import MODELS as HOST_MODELS
from torch import Tensor, nn

from aib_mm.classification.backbones import KAIMING
from aib_mm.errors import check_count
from aib_mm.registry import MODELS

STEM_CHANNELS = 16

# Channels at widen_factor 1, and the stride of the first residual block.
GROUPS: dict[int, tuple[int, int]] = {1: (16, 1), 2: (32, 2), 3: (64, 2)}


class PreActBlock(BaseModule):
    """Two 3×3 convs, each after batch norm and ReLU, with dropout between them.

    ``out = shortcut + conv2(dropout(relu(bn2(conv1(h)))))``, ``h = relu(bn1(x))``. The
    shortcut is x; where channels or stride change, it is a 1×1 conv of h.

    Args:
        in_channels: channels of x.
        out_channels: output channels of both convs.
        stride: stride of the first conv and of the shortcut.
        dropout: share of elements dropped in training.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, dropout: float
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, 3, stride, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` to ``(N, out_channels, H/stride, W/stride)``."""
        h = self.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(h)
        h = self.conv1(h)
        return shortcut + self.conv2(self.dropout(self.relu(self.bn2(h))))


@HOST_MODELS.register_module()
@MODELS.register_module()
class WideResNetBlocks(BaseModule):
    """Consecutive blocks of a wide residual network (Zagoruyko and Komodakis, 2016).

    A block is a group of ``(depth - 4) / 6`` pre-activation residual blocks; block 1
    comes after a 3×3 conv to 16 channels. In the paper's Table 1 blocks 1 and 2 are the
    extractor and block 3 is, twice, in the attention module and the encoder. Neither
    mmpretrain nor torchvision has this network: their wide ResNets are the bottleneck
    ones for ImageNet, with the activation after the sum.

    Args:
        blocks: numbers of the blocks, consecutive, from 1 to 3.
        depth: layers of the whole network: 10, 16, 22, 28, …
        widen_factor: k; the blocks have 16k, 32k and 64k channels, rounded.
        dropout: share of elements dropped. Not in the paper; from the released code.
        in_channels: channels of x, by default what comes before: 3, or the width of
            the block before. To be set after a modulation that concatenates.
        first_stride: stride of the first block, by default the network's own: 1, 2, 2.
            The attention branch's block 3 has 1, so that the map keeps its size.
        final_norm: end with batch norm and ReLU, as the network does; by default if
            block 3 is among the blocks. A cut before has the bare sum, which the next
            block normalises.
        pointwise: channels of a 1×1 conv with batch norm between the final batch norm
            and ReLU: the attention branch of the released code.

    Raises:
        ValueError: blocks, a depth, width, share, stride or end that do not exist.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (1, 2, 3),
        depth: int = 28,
        widen_factor: float = 10,
        dropout: float = 0.3,
        in_channels: int | None = None,
        first_stride: int | None = None,
        final_norm: bool | None = None,
        pointwise: int | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or KAIMING)
        blocks = list(blocks)
        _check(blocks, depth, widen_factor, dropout)
        widths = {n: round(wide * widen_factor) for n, (wide, _) in GROUPS.items()}
        strides = {n: stride for n, (_, stride) in GROUPS.items()}
        if first_stride is not None:
            check_count('first_stride', first_stride, 1)
            strides[blocks[0]] = first_stride
        if in_channels is not None:
            check_count('in_channels', in_channels, 1)
        channels = in_channels or widths.get(blocks[0] - 1, 3)
        # Named by block, so that a layer keeps its name wherever the cut is.
        layers: dict[str, nn.Module] = {}
        if blocks[0] == 1:
            layers['stem'] = nn.Conv2d(
                channels, STEM_CHANNELS, 3, padding=1, bias=False
            )
            channels = STEM_CHANNELS
        for block in blocks:
            residuals = []
            for i in range((depth - 4) // 6):
                stride = strides[block] if i == 0 else 1
                residuals.append(PreActBlock(channels, widths[block], stride, dropout))
                channels = widths[block]
            layers[f'block{block}'] = nn.Sequential(*residuals)
        if final_norm is None:
            final_norm = 3 in blocks
        layers.update(_final(channels, final_norm, pointwise))
        self.layers = nn.Sequential(OrderedDict(layers))
        self.out_channels = pointwise or channels

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """``(N, in_channels, H, W)`` to one map ``(N, out_channels, H', W')``."""
        return (self.layers(x),)


def _final(
    channels: int, final_norm: bool, pointwise: int | None
) -> dict[str, nn.Module]:
    """What comes after the last residual block, by name."""
    if pointwise is not None:
        check_count('pointwise', pointwise, 1)
        if not final_norm:
            raise ValueError(
                f'pointwise={pointwise} comes after the final batch norm: leave '
                'final_norm out or set it to True'
            )
    layers: dict[str, nn.Module] = {}
    if final_norm:
        layers['norm'] = nn.BatchNorm2d(channels)
        if pointwise is not None:
            layers['pointwise'] = nn.Conv2d(channels, pointwise, 1, bias=False)
            layers['pointwise_norm'] = nn.BatchNorm2d(pointwise)
        layers['relu'] = nn.ReLU(inplace=True)
    return layers


def _check(blocks: list[int], depth: int, widen_factor: float, dropout: float) -> None:
    if not blocks or blocks != list(range(blocks[0], blocks[0] + len(blocks))):
        raise ValueError(f'blocks must be consecutive numbers, got {blocks}')
    if not set(blocks) <= set(GROUPS):
        raise ValueError(f'blocks must be among {list(GROUPS)}, got {blocks}')
    check_count('depth', depth, 10)
    if (depth - 4) % 6:
        raise ValueError(f'depth must be 6n + 4 (10, 16, 22, 28, ...), got {depth}')
    if round(16 * widen_factor) < 1:
        raise ValueError(
            f'widen_factor must leave at least one channel, got {widen_factor!r}'
        )
    if not 0 <= dropout < 1:
        raise ValueError(f'dropout must be in [0, 1), got {dropout!r}')
