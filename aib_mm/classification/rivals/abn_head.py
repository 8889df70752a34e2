"""Attention branch network (Fukui et al., 2019): WRN-ABN of the paper's Table 5."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.registry import MODELS as HOST_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from aib_mm.classification.heads.one_class import OneClassHead
from aib_mm.classification.rivals.maps import sigmoid_map
from aib_mm.errors import check_count
from aib_mm.features import AttentionMaps, AttentionModule, WithAttention
from aib_mm.registry import MODELS, build_part


class ABNBranch(AttentionModule):
    """The attention branch: a classifier by itself, whose class maps make the map.

    ``k = conv1×1(body(x))`` has a map for each of C classes; the branch's logits are
    their means over positions, and ``a = sigmoid(BN(conv1×1(k)))``, one map.

    Args:
        num_classes: C.
        body: config of the branch's own layers; has ``out_channels`` and keeps the
            features' size.
    """

    def __init__(self, num_classes: int, body: dict) -> None:
        super().__init__()
        self.body = build_part(body)
        self.class_maps = nn.Conv2d(self.body.out_channels, num_classes, 1)
        self.score = nn.Conv2d(num_classes, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> WithAttention:
        """``(B, K, H, W)`` to ``(1 + a) x`` and the logits ``(B, C)``, with the map.

        Raises:
            ValueError: the body changed the size.
        """
        class_maps = self.class_maps(self.body(x)[-1])
        if class_maps.shape[2:] != x.shape[2:]:
            raise ValueError(
                f'the attention branch makes a map of {tuple(class_maps.shape[2:])} '
                f'for features of {tuple(x.shape[2:])}: its body must keep the size '
                '(first_stride=1)'
            )
        a = sigmoid_map(self.norm(self.score(class_maps)))
        attended = (1 + a.to(x.dtype)) * x
        logits = class_maps.mean(dim=(2, 3))
        return WithAttention((attended, logits), [AttentionMaps.certain(a)])


@HOST_MODELS.register_module()
@MODELS.register_module()
class ABNHead(OneClassHead):
    """Attention branch and, on what it lets through, perception branch: both classify.

    "Attention Branch Network: Learning of Attention Mechanism for Visual Explanation",
    sections 3.1 to 3.3, in its residual form ``(1 + a) x``. The loss is the sum of both
    branches' cross-entropies; the perception branch predicts.

    Args:
        num_classes: C.
        branch: config of the attention branch's body, see ``ABNBranch``.
        body: config of the perception branch's body, whose last map is classified.
        loss, topk, cal_acc, init_cfg: arguments of mmpretrain's ``ClsHead``.

    Raises:
        ValueError: a number of classes that cannot be; in the first forward pass, a
            branch that changes the features' size.
    """

    def __init__(
        self, num_classes: int, branch: dict, body: dict, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_count('num_classes', num_classes, 1)
        self.num_classes = num_classes
        self.branch = ABNBranch(num_classes, branch)
        self.body = build_part(body)
        self.fc = nn.Linear(self.body.out_channels, num_classes)

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """The perception branch's pooled features ``(B, K)``."""
        return self._features(feats)[0]

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """The perception branch's logits ``(B, C)``."""
        return self.fc(self.pre_logits(feats))

    def loss(
        self, feats: Sequence[Tensor], data_samples: list[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """``loss_cls`` of the perception branch and ``loss_att`` of the other."""
        features, logits = self._features(feats)
        losses = self._get_loss(self.fc(features), data_samples, **kwargs)
        # The log's "loss" is the total.
        losses['loss_cls'] = losses.pop('loss')
        losses['loss_att'] = self._get_loss(logits, data_samples, **kwargs)['loss']
        return losses

    def _features(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        attended, logits = self.branch(feats[-1])
        return self.body(attended)[-1].mean(dim=(2, 3)), logits
