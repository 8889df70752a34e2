"""Decode heads whose last layer gives a distribution per pixel (paper, 4.2.4).

x_att, L_a samples ── host's head up to its last layer ─┬─ mean ─┐
                                                        └─ std ──┴─ z ── conv_seg
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import FCNHead, PSPHead, SegformerHead, UPerHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS as HOST_MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from aib_mm.encoders import Latent
from aib_mm.errors import check_count, choose
from aib_mm.features import (
    Samples,
    all_samples,
    expected_features,
    sample_chunks,
    take_losses,
)
from aib_mm.registry import MODELS, build_part
from aib_mm.segmentation.gaussian_conv import GaussianConv

AVERAGES = ('logit', 'prob')

Features = Sequence[Tensor]


class GaussianDecodeHead(BaseDecodeHead):
    """Makes the last layer before ``conv_seg`` of a ``BaseDecodeHead`` stochastic.

    A base to put before the host's head, which must end in ``cls_seg``::

        @MODELS.register_module()
        class MyAIBHead(GaussianDecodeHead, MyHead):
            last_layer = 'bottleneck'  # the ConvModule whose output goes to cls_seg

    The layer is moved to ``latent``. Weights of the vanilla head load: those of its
    last layer become the mean's. Behind ``AIBAttention`` the head decodes every
    attention sample; in training the task loss is averaged over all samples (Eq. 12),
    at test their predictions are. All else is the host's: losses, sampler, inference.

    Args:
        train_samples: L_z in training.
        test_samples: L_z at test; 0 takes the mean latent.
        average: at test, samples are averaged as ``'logit'`` or as ``'prob'``, at the
            resolution of the logits.
        std_kernel_size: kernel size of the std's conv, see ``GaussianConv``.
        std_shift: shift of ``gaussian.softplus_std``, see ``GaussianLayer``.
        std_groups: groups of the std's conv, see ``GaussianConv``.
        aib_loss: config of ``AIBLoss``.
        args, kwargs: arguments of the host's head.

    Raises:
        ValueError: an unknown choice, an impossible number, a last layer that cannot
            be made stochastic, or a discriminator of another width.
    """

    last_layer: str = ''
    vanilla_lacks = ('aib_loss',)

    def __init__(
        self,
        *args: Any,
        train_samples: int = 1,
        test_samples: int = 1,
        average: str = 'logit',
        std_kernel_size: int = 1,
        std_shift: float = 5.0,
        std_groups: int = 1,
        aib_loss: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_count('train_samples', train_samples, 1)
        check_count('test_samples', test_samples, 0)
        choose('average', average, AVERAGES)
        self.train_samples = train_samples
        self.test_samples = test_samples
        self.average = average
        holder, _, name = self.last_layer.rpartition('.')
        layers = [place for place, _ in self.named_modules() if place]
        choose(f'{type(self).__name__}.last_layer', self.last_layer, layers)
        layer = self.get_submodule(self.last_layer)
        # The host's forward then ends with what that layer would see.
        setattr(self.get_submodule(holder), name, nn.Identity())
        self.latent = GaussianConv(layer, std_kernel_size, std_shift, std_groups)
        self.aib_loss = build_part(aib_loss or dict(type='AIBLoss'))
        self.aib_loss.check_encoder(self.latent)

    def cls_seg(self, feat: Tensor) -> Tensor:
        """The features as they are: ``decode`` classifies, once the latent is drawn."""
        return feat

    def encode(self, feats: Features, num_samples: int, blocks: int = 1) -> Latent:
        """Features to the latent of each pixel, ``(L_z, N, K, H, W)``.

        Args:
            feats: features per level, ``(N, C, H, W)``.
            num_samples: draws; 0 is the mean.
            blocks: samples of the attention in ``feats``.
        """
        return self.latent(super().forward(feats), num_samples, blocks)

    def decode(self, latent: Latent) -> Tensor:
        """Logits ``(L_z, N, C, H, W)``."""
        z = self.latent.activate(latent.samples).to(self.conv_seg.weight.dtype)
        return super().cls_seg(z.flatten(0, 1)).unflatten(0, z.shape[:2])

    def forward(self, inputs: Features) -> Tensor:
        """Logits ``(B, C, H, W)`` without sampling: ``mode='tensor'``."""
        return self.decode(self.encode(expected_features(inputs), 0))[0]

    def loss(
        self, inputs: Features, batch_data_samples: list[SegDataSample], train_cfg: Any
    ) -> dict[str, Tensor]:
        """Task loss averaged over samples (Eq. 12, 22), and the bottleneck's terms."""
        self.aib_loss.check_neck(inputs)
        logits, latent = self._decode_samples(all_samples(inputs), self.train_samples)
        # One by one: some losses and samplers are no sums over the batch.
        found = [self.loss_by_feat(sample, batch_data_samples) for sample in logits]
        losses = {
            key: torch.stack([one[key] for one in found]).mean(0) for key in found[0]
        }
        losses.update(self.aib_loss(latent, take_losses(inputs)))
        return losses

    def predict(
        self, inputs: Features, batch_img_metas: list[dict], test_cfg: Any
    ) -> Tensor:
        """Logits of the average over samples, ``(B, C, H, W)`` in the images' size."""

        def logits_of(samples: Samples) -> Tensor:
            return self._decode_samples(samples, self.test_samples)[0]

        # map lets go of one chunk before it asks for the next.
        logits = mean_logits(map(logits_of, sample_chunks(inputs)), self.average)
        return self.predict_by_feat(logits, batch_img_metas)

    def _decode_samples(
        self, samples: Samples, latent_samples: int
    ) -> tuple[Tensor, Latent]:
        """Logits ``(L_z·L_a, B, C, H, W)`` and the latent of these samples."""
        latent = self.encode(samples.maps, latent_samples, samples.num_samples)
        logits = self.decode(latent)
        return logits.unflatten(1, (samples.num_samples, -1)).flatten(0, 1), latent

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take a vanilla head's last layer as the mean of the latent."""
        last = f'{prefix}{self.last_layer}.'
        for key in [key for key in state_dict if key.startswith(last)]:
            mean = f'{prefix}latent.mean.{key.removeprefix(last)}'
            state_dict[mean] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def mean_logits(chunks: Iterable[Tensor], average: str) -> Tensor:
    """Logits of the mean over all samples, of which one chunk is looked at at a time.

    Args:
        chunks: logits, each ``(S, B, C, H, W)``.
        average: ``'logit'``, or ``'prob'``: of the class probabilities, which are the
            softmax over C, or the sigmoid where C is 1.

    Returns:
        ``(B, C, H, W)``: mean logits; of probabilities their log, or for C = 1 the
        logit.
    """
    mean, count = None, 0
    for logits in chunks:
        size = len(logits)
        count += size
        if average == 'logit':
            part = logits.mean(dim=0)
            mean = part if mean is None else mean.lerp(part, size / count)
        else:
            part = _log_probabilities(logits).logsumexp(dim=0)
            mean = part if mean is None else mean.logaddexp(part)
        binary = logits.shape[2] == 1
        del logits, part  # before the next chunk is computed
    assert mean is not None
    if average == 'logit':
        return mean
    if binary:
        return mean[:, :1] - mean[:, 1:]
    return mean - math.log(count)


def _log_probabilities(logits: Tensor) -> Tensor:
    """Log probabilities over C; where C is 1, of being the class and not being it."""
    if logits.shape[2] > 1:
        return logits.log_softmax(dim=2)
    return torch.cat([F.logsigmoid(logits), F.logsigmoid(-logits)], dim=2)


@HOST_MODELS.register_module()
@MODELS.register_module()
class AIBDecodeHead(GaussianDecodeHead, UPerHead):
    """``UPerHead`` with a latent per pixel: the paper's head for BEiT."""

    last_layer = 'fpn_bottleneck'


@HOST_MODELS.register_module()
@MODELS.register_module()
class AIBPSPHead(GaussianDecodeHead, PSPHead):
    """``PSPHead`` with a latent per pixel."""

    last_layer = 'bottleneck'


@HOST_MODELS.register_module()
@MODELS.register_module()
class AIBSegformerHead(GaussianDecodeHead, SegformerHead):
    """``SegformerHead`` with a latent per pixel."""

    last_layer = 'fusion_conv'


@HOST_MODELS.register_module()
@MODELS.register_module()
class AIBFCNHead(GaussianDecodeHead, FCNHead):
    """``FCNHead`` with a latent per pixel; it needs a conv of its own."""

    @property
    def last_layer(self) -> str:  # type: ignore[override]  # never set
        if self.concat_input:
            return 'conv_cat'
        if self.num_convs == 0:
            raise ValueError(
                'AIBFCNHead(num_convs=0, concat_input=False) has no layer before '
                'conv_seg: set num_convs to 1 or more'
            )
        return f'convs.{self.num_convs - 1}'
