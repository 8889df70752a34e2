"""What every head whose images have one class each refuses."""

from typing import Any

import torch
from mmpretrain.models.heads import ClsHead
from mmpretrain.models.losses import FocalLoss
from mmpretrain.structures import DataSample
from torch import Tensor, nn

_REMEDY = (
    "for images with several classes put the host's head behind the neck: "
    "head=dict(type='MultiLabelLinearClsHead', ...) behind neck=dict("
    "type='AIBAttention', post_neck=dict(type='GlobalAveragePooling'), ...)"
)


class OneClassHead(ClsHead):
    """``ClsHead`` that predicts a softmax, and learns from nothing else.

    Args:
        loss: config of the loss, by default cross-entropy.
        kwargs: arguments of mmpretrain's ``ClsHead``.

    Raises:
        ValueError: a loss that judges each class for itself; in training, an image
            that has not exactly one class. Scores of classes that sum to 1 (mixed
            images) are one class.
    """

    def __init__(self, loss: dict | None = None, **kwargs: Any) -> None:
        super().__init__(loss=loss or dict(type='CrossEntropyLoss'), **kwargs)
        if any(_judges_each_class(module) for module in self.loss_module.modules()):
            raise ValueError(
                f'{type(self).__name__} predicts a softmax over the classes, and the '
                f'sigmoid of loss={loss} judges each class for itself: use '
                f"loss=dict(type='CrossEntropyLoss'); {_REMEDY}"
            )

    def _get_loss(
        self, cls_score: Tensor, data_samples: list[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Loss of logits ``(N, C)``, one data sample each."""
        if 'gt_score' in data_samples[0]:
            totals = torch.stack([one.gt_score.sum() for one in data_samples])
            single = (totals - 1).abs() < 1e-3
        else:
            counts = [one.gt_label.numel() for one in data_samples]
            single = torch.tensor(counts) == 1
        if not single.all():
            wrong = data_samples[int(single.int().argmin())]
            label = wrong.get('gt_score', wrong.get('gt_label'))
            raise ValueError(
                f'{type(self).__name__} learns one class an image, got the label '
                f'{label.tolist()} (image {wrong.get("img_path")}); {_REMEDY}'
            )
        return super()._get_loss(cls_score, data_samples, **kwargs)


def _judges_each_class(module: nn.Module) -> bool:
    always = isinstance(module, FocalLoss | nn.BCEWithLogitsLoss)
    return always or getattr(module, 'use_sigmoid', False)
