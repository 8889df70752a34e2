"""The classification head: encoder, latent, decoder, and the bottleneck's losses."""

from collections.abc import Sequence

from mmpretrain.models.heads import ClsHead
from mmpretrain.registry import MODELS as HOST_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from aib_mm.attended import AttendedFeatures
from aib_mm.encoders import Latent
from aib_mm.errors import check_count, choose
from aib_mm.gaussian import kl_elements
from aib_mm.interpret.uncertainty import (
    ENTROPY,
    INFORMATION,
    mutual_information,
    predictive_entropy,
)
from aib_mm.registry import MODELS, build_part

AVERAGES = ('logit', 'prob')
TRAIN_AVERAGES = ('loss', 'logit')


@HOST_MODELS.register_module()
@MODELS.register_module()
class AIBClsHead(ClsHead):
    """Attended features to a latent ``z``, and from z to class scores.

    Behind ``AIBAttention`` it sees every attention sample; behind an ordinary neck or
    backbone it is a deep variational bottleneck without attention (DVIB).

    Args:
        num_classes: C.
        encoder: config of ``GaussianEncoder`` or ``NoiseEncoder``; gets ``latent_dim``.
        latent_dim: K.
        decoder: config of the map from z to logits; gets ``latent_dim`` and
            ``num_classes``. By default ``LatentDecoder``.
        aib_loss: config of ``AIBLoss``.
        train_samples: L_z in training.
        test_samples: L_z at test; 0 takes the mean latent. A ``NoiseEncoder`` draws
            in the neck, so that it takes at most 1 here.
        average: at test, samples are averaged as ``'logit'`` or as ``'prob'``.
        train_average: ``'loss'`` is the mean over samples of the task loss (paper,
            Eq. 12); ``'logit'`` the loss of the mean logits (the released code).
        loss, topk, cal_acc, init_cfg: as mmpretrain's ``ClsHead``.

    Raises:
        ValueError: an unknown choice, a wrong number, or parts that do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        encoder: dict,
        latent_dim: int = 256,
        decoder: dict | None = None,
        aib_loss: dict | None = None,
        train_samples: int = 1,
        test_samples: int = 4,
        average: str = 'logit',
        train_average: str = 'loss',
        loss: dict | None = None,
        topk: int | tuple[int, ...] = (1,),
        cal_acc: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        loss = loss or dict(type='CrossEntropyLoss')
        super().__init__(loss=loss, topk=topk, cal_acc=cal_acc, init_cfg=init_cfg)
        check_count('num_classes', num_classes, 1)
        check_count('train_samples', train_samples, 1)
        check_count('test_samples', test_samples, 0)
        choose('average', average, AVERAGES)
        choose('train_average', train_average, TRAIN_AVERAGES)
        self.encoder = build_part(dict(encoder, latent_dim=latent_dim))
        self.decoder = build_part(
            dict(
                decoder or dict(type='LatentDecoder'),
                latent_dim=latent_dim,
                num_classes=num_classes,
            )
        )
        self.aib_loss = build_part(aib_loss or dict(type='AIBLoss'))
        self.aib_loss.check_encoder(self.encoder)
        if not self.encoder.has_density and max(train_samples, test_samples) > 1:
            raise ValueError(
                f'{type(self.encoder).__name__} draws L_z in the neck, but this head '
                f'has train_samples={train_samples}, test_samples={test_samples}: set '
                'both to 1 here, and those of neck.noise to L_z'
            )
        self.train_samples = train_samples
        self.test_samples = test_samples
        self.average = average
        self.train_average = train_average

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """The mean latent under the mean attention, ``(B, K)``."""
        self._check_noise(feats)
        features = feats.expected if isinstance(feats, AttendedFeatures) else feats
        return self.encoder(features[-1], 0).samples[0]

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits ``(B, C)`` without sampling: ``mode='tensor'``."""
        return self.decoder(self.pre_logits(feats))

    def loss(
        self, feats: Sequence[Tensor], data_samples: list[DataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Task loss and the bottleneck's terms (paper, Eq. 18)."""
        logits, latent = self._decode_samples(feats, self.train_samples)
        if self.train_average == 'loss':
            targets = data_samples * len(logits)
            losses = self._get_loss(logits.flatten(0, 1), targets, **kwargs)
        else:
            losses = self._get_loss(logits.mean(dim=0), data_samples, **kwargs)
        # The log's "loss" is the total.
        losses['loss_cls'] = losses.pop('loss')
        quantization = feats.losses if isinstance(feats, AttendedFeatures) else None
        losses.update(self.aib_loss(latent, quantization))
        return losses

    def predict(
        self,
        feats: Sequence[Tensor],
        data_samples: list[DataSample | None] | None = None,
    ) -> list[DataSample]:
        """Average over all samples; ``pred_score`` and ``pred_label`` as the host's.

        Behind ``AIBAttention`` the data samples also get ``attention_mean`` and
        ``attention_std``, ``(1, H, W)`` each, of the last level; with a Gaussian
        encoder ``kl_nats``, the divergence of the image's latent (summed over K,
        averaged over attention samples). All get ``predictive_entropy`` and
        ``mutual_information``, in nats, of the samples' class probabilities: the
        entropy of their mean, whatever ``average`` says, and the part of it that comes
        of their disagreement, which is 0 of one sample.
        """
        logits, latent = self._decode_samples(feats, self.test_samples)
        if self.average == 'prob':
            scores = logits.softmax(dim=-1).mean(dim=0).log()
        else:
            scores = logits.mean(dim=0)
        predictions = self._get_predictions(scores, data_samples)
        attributes = _attributes(feats, latent, len(predictions))
        probabilities = logits.float().softmax(dim=-1)
        attributes[ENTROPY] = predictive_entropy(probabilities)
        attributes[INFORMATION] = mutual_information(probabilities)
        for name, values in attributes.items():
            for prediction, value in zip(predictions, values, strict=True):
                prediction.set_field(value, name)
        return predictions

    def _decode_samples(
        self, feats: Sequence[Tensor], latent_samples: int
    ) -> tuple[Tensor, Latent]:
        """Logits ``(L_z·L_a, B, C)`` and the latent of all attention samples."""
        self._check_noise(feats)
        attended = isinstance(feats, AttendedFeatures)
        count = feats.num_samples if attended else 1
        latent = self.encoder(
            feats.samples[-1] if attended else feats[-1], latent_samples
        )
        logits = self.decoder(latent.samples)
        return logits.unflatten(1, (count, -1)).flatten(0, 1), latent

    def _check_noise(self, feats: Sequence[Tensor]) -> None:
        noisy = getattr(feats, 'noisy', False)
        if noisy == self.encoder.has_density:
            raise ValueError(
                f'{type(self.encoder).__name__} {"with" if noisy else "without"} noise '
                'on its features: the stochastic encoders are GaussianEncoder with '
                'neck.noise=None, or NoiseEncoder with neck.noise=dict('
                "type='AdditiveNoise') or dict(type='PropagatedNoise')"
            )


def _attributes(
    feats: Sequence[Tensor], latent: Latent, batch_size: int
) -> dict[str, Tensor]:
    """What is known of each image besides its class, ``(B, ...)`` by field name."""
    attributes = {}
    if isinstance(feats, AttendedFeatures):
        attributes['attention_mean'] = feats.attention[-1].mean
        attributes['attention_std'] = feats.attention[-1].std
    if latent.mean is not None and latent.std is not None:
        nats = kl_elements(latent.mean, latent.std).sum(dim=1)
        attributes['kl_nats'] = nats.view(-1, batch_size).mean(dim=0)
    return attributes
