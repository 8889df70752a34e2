"""Class activation maps (Zhou et al., 2016): VGG-GAP of the paper's Table 5."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmpretrain.registry import MODELS as HOST_MODELS
from torch import Tensor, nn

from aib_mm.classification.heads.one_class import OneClassHead
from aib_mm.errors import check_count
from aib_mm.features import AttentionMaps, AttentionModule, WithAttention
from aib_mm.registry import MODELS


def class_activation_map(features: Tensor, weights: Tensor) -> Tensor:
    """``M(x, y) = sum_k w_k f_k(x, y)`` (Eq. 2), less its minimum.

    Eq. 2 has no lower bound. What is taken off is one number per image, so that the
    order of the positions and their differences stay.

    Args:
        features: f, ``(B, K, H, W)``.
        weights: w of each image's class, ``(B, K)``.

    Returns:
        ``(B, 1, H, W)``, not negative, on the scale of the class score.
    """
    # No matrix product, which autocast would do in half precision.
    maps = (weights[:, :, None, None] * features).sum(dim=1, keepdim=True)
    return maps - maps.amin(dim=(2, 3), keepdim=True)


class ClassActivation(AttentionModule):
    """Global average pooling, one FC layer, and the map of the class that it predicts.

    The map explains the prediction and takes no part in it: no gradient flows from it.

    Args:
        in_channels: K, channels of the features.
        num_classes: C.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> WithAttention:
        """``(B, K, H, W)`` to logits ``(B, C)`` (Eq. 1), with the map."""
        logits = self.fc(x.mean(dim=(2, 3)))
        with torch.no_grad():
            weights = self.fc.weight[logits.argmax(dim=1)]
            maps = class_activation_map(x, weights)
        return WithAttention((logits,), [AttentionMaps.certain(maps)])


@HOST_MODELS.register_module()
@MODELS.register_module()
class CAMHead(OneClassHead):
    """A 3×3 conv, global average pooling, one FC layer, and class activation maps.

    Behind the convs of VGG16 without their last pool this is VGG-GAP: "Learning Deep
    Features for Discriminative Localization", section 3.1. The batch norm behind the
    conv is ours, as it is behind every other one.

    Args:
        num_classes: C.
        in_channels: channels of the features.
        conv_channels: output channels of the 3×3 conv.
        loss, topk, cal_acc, init_cfg: arguments of mmpretrain's ``ClsHead``.

    Raises:
        ValueError: a number of classes or channels that cannot be.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        conv_channels: int = 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_count('num_classes', num_classes, 1)
        check_count('in_channels', in_channels, 1)
        check_count('conv_channels', conv_channels, 1)
        self.num_classes = num_classes
        self.conv = ConvModule(
            in_channels, conv_channels, 3, padding=1, norm_cfg=dict(type='BN')
        )
        # It is initialised already. mmengine would do so again behind init_cfg.
        self.conv.is_init = True
        self.classify = ClassActivation(conv_channels, num_classes)

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """The features that are pooled, ``(B, conv_channels, H, W)``."""
        return self.conv(feats[-1])

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits ``(B, C)``; the map is in what ``classify`` returns."""
        (logits,) = self.classify(self.pre_logits(feats))
        return logits
