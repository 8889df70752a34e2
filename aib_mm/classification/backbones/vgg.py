"""VGG16 for small images, cut into extractor and encoder by configuration."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

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
        blocks: numbers of the blocks, consecutive, from 1 to 6.
        width: factor on all channels, rounded to whole channels.
        in_channels: channels of x, by default what comes before: 3, or the width of
            the block before. To be set after a modulation or noise that concatenates.
        pointwise: end with a 1×1 conv to 512 (× ``width``) channels and a ReLU.
        norm_cfg: config of the norm after each 3×3 conv.
        out_blocks: give the maps of these blocks, each before its last pool, instead of
            the map after all layers; nothing is built that none of them needs.

    Raises:
        ValueError: blocks that do not exist or are not consecutive, a width that leaves
            no channel, ``out_blocks`` that are not among ``blocks`` or come with
            ``pointwise``.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (1, 2, 3, 4, 5, 6),
        width: float = 1.0,
        in_channels: int | None = None,
        pointwise: bool = False,
        norm_cfg: dict | None = None,
        out_blocks: Sequence[int] | None = None,
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
        if out_blocks is not None:
            _check_out_blocks(out_blocks, blocks, pointwise)
            blocks = blocks[: blocks.index(out_blocks[-1]) + 1]
        norm_cfg = norm_cfg or dict(type='BN')
        before = 3 if blocks[0] == 1 else round(_widest(blocks[0] - 1) * width)
        layers = _conv_layers(blocks, width, in_channels or before, norm_cfg)
        self.outputs = [_last_conv(layers, block) for block in out_blocks or ()]
        while self.outputs and next(reversed(layers)) != self.outputs[-1]:
            layers.popitem()
        channels = round(_widest(blocks[-1]) * width)
        if pointwise:
            layers['pointwise'] = ConvModule(channels, round(512 * width), 1)
            channels = round(512 * width)
        self.layers = nn.Sequential(OrderedDict(layers))
        self.out_channels = channels

    def forward(self, x: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """``(N, in_channels, H, W)`` to one map ``(N, out_channels, H', W')``.

        With ``out_blocks`` to the map of each; the last has ``out_channels``. As a neck
        it gets a backbone's maps, and takes the last.
        """
        h = x if isinstance(x, Tensor) else x[-1]
        if not self.outputs:
            return (self.layers(h),)
        maps = []
        for name, layer in self.layers.named_children():
            h = layer(h)
            if name in self.outputs:
                maps.append(h)
        return tuple(maps)


def _conv_layers(
    blocks: Sequence[int], width: float, channels: int, norm_cfg: dict
) -> dict[str, nn.Module]:
    """Layers named as in the VGG paper: a layer keeps its name wherever the cut is."""
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
    return layers


def _last_conv(layers: Iterable[str], block: int) -> str:
    return [name for name in layers if name.startswith(f'conv{block}_')][-1]


def _widest(block: int) -> int:
    return max(int(entry) for entry in BLOCKS[block] if entry != POOL)


def _check_out_blocks(
    out_blocks: Sequence[int], blocks: Sequence[int], pointwise: bool
) -> None:
    chosen = list(out_blocks)
    if not chosen or chosen != sorted(set(chosen) & set(blocks)):
        raise ValueError(
            f'out_blocks must be some of the blocks {list(blocks)}, in order, got '
            f'{chosen}'
        )
    if pointwise:
        raise ValueError(
            f'pointwise comes after the last pool, and out_blocks={chosen} end before '
            'theirs: leave one of them out'
        )
