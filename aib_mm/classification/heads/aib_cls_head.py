"""The classification head: encoder, latent, decoder, and the bottleneck's losses."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.registry import MODELS as HOST_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from aib_mm.classification.heads.adaptive import AdaptiveSampling, by_count, spread
from aib_mm.classification.heads.one_class import OneClassHead
from aib_mm.encoders import Latent, join_latents
from aib_mm.entropy import ENTROPY, INFORMATION, mutual_information, predictive_entropy
from aib_mm.errors import check_count, choose
from aib_mm.features import (
    AttendedFeatures,
    Samples,
    expected_features,
    sample_chunks,
    take_losses,
)
from aib_mm.gaussian import at_least_float32, kl_elements
from aib_mm.registry import MODELS, build_part, with_settings

AVERAGES = ('logit', 'prob')
TRAIN_AVERAGES = ('loss', 'logit')


@HOST_MODELS.register_module()
@MODELS.register_module()
class AIBClsHead(OneClassHead):
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
        adaptive: config of ``AdaptiveSampling``, ``dict(margin=4.0, min_samples=1)``:
            at test, further attention samples only for images whose class is not
            settled. By default every image gets all.
        train_average: ``'loss'`` is the mean over samples of the task loss (paper,
            Eq. 12); ``'logit'`` the loss of the mean logits (the released code).
        loss, topk, cal_acc, init_cfg: arguments of mmpretrain's ``ClsHead``.

    Raises:
        ValueError: an unknown choice, a wrong number, parts that do not fit, or a
            loss or labels of several classes an image, see ``OneClassHead``.
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
        adaptive: dict | None = None,
        loss: dict | None = None,
        topk: int | tuple[int, ...] = (1,),
        cal_acc: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(loss=loss, topk=topk, cal_acc=cal_acc, init_cfg=init_cfg)
        check_count('num_classes', num_classes, 1)
        check_count('train_samples', train_samples, 1)
        check_count('test_samples', test_samples, 0)
        choose('average', average, AVERAGES)
        choose('train_average', train_average, TRAIN_AVERAGES)
        encoder = with_settings('encoder', encoder, latent_dim=latent_dim)
        decoder = decoder or dict(type='LatentDecoder')
        shape = dict(latent_dim=latent_dim, num_classes=num_classes)
        self.encoder = build_part(encoder)
        self.decoder = build_part(with_settings('decoder', decoder, **shape))
        self.aib_loss = build_part(aib_loss or dict(type='AIBLoss'))
        self.aib_loss.check_encoder(self.encoder)
        if not self.encoder.has_density and max(train_samples, test_samples) > 1:
            raise ValueError(
                f'{type(self.encoder).__name__} draws L_z in the neck, but this head '
                f'has train_samples={train_samples}, test_samples={test_samples}: set '
                'both to 1 here, and those of neck.noise to L_z'
            )
        if adaptive is not None and num_classes < 2:
            raise ValueError(
                f'adaptive needs two classes or more, got num_classes={num_classes}: '
                'leave it out'
            )
        self.num_classes = num_classes
        self.train_samples = train_samples
        self.test_samples = test_samples
        self.average = average
        self.train_average = train_average
        self.adaptive = None if adaptive is None else AdaptiveSampling(**adaptive)

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """The mean latent under the mean attention, ``(B, K)``."""
        self._check_noise(feats)
        return self.encoder(expected_features(feats)[-1], 0).samples[0]

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits ``(B, C)`` without sampling: ``mode='tensor'``."""
        return self.decoder(self.pre_logits(feats))

    def loss(
        self, feats: Sequence[Tensor], data_samples: list[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Task loss and the bottleneck's terms (paper, Eq. 18)."""
        self.aib_loss.check_neck(feats)
        logits, latent = self._decode_samples(feats, self.train_samples)
        logits = logits.flatten(0, 1)
        if self.train_average == 'loss':
            targets = data_samples * len(logits)
            losses = self._get_loss(logits.flatten(0, 1), targets, **kwargs)
        else:
            losses = self._get_loss(logits.mean(dim=0), data_samples, **kwargs)
        # The log's "loss" is the total.
        losses['loss_cls'] = losses.pop('loss')
        losses.update(self.aib_loss(latent, take_losses(feats)))
        return losses

    def predict(
        self,
        feats: Sequence[Tensor],
        data_samples: list[DataSample | None] | None = None,
    ) -> list[DataSample]:
        """Average over all samples; ``pred_score`` and ``pred_label`` as the host's.

        The data samples also get ``predictive_entropy`` and ``mutual_information``, in
        nats, of the samples' class probabilities: the entropy of their mean, whatever
        ``average`` says, and the part of it that is due to their disagreement, which is
        0 for one sample; with a Gaussian encoder ``kl_nats``, the divergence of the
        image's latent (summed over K, averaged over attention samples). The attention
        itself is written by ``AttentionFieldsHook``.

        With ``adaptive`` also ``samples_drawn``: how often the encoder ran for the
        image. Everything then comes from these samples.
        """
        if self.adaptive is None:
            logits, latent = self._decode_samples(feats, self.test_samples)
            found = self._summarized(logits, _nats(latent, logits.shape[1]))
        else:
            found = self._adapted(feats)
        predictions = self._get_predictions(found.pop('scores'), data_samples)
        for name, values in found.items():
            for prediction, value in zip(predictions, values, strict=True):
                prediction.set_field(value, name)
        return predictions

    def _summarized(self, logits: Tensor, nats: Tensor | None) -> dict[str, Tensor]:
        """Scores and what else the samples tell, ``(n, ...)`` by name.

        Args:
            logits: ``(L_z, L_a, n, C)``.
            nats: divergence of the latents, ``(L_a, n)``, where known.
        """
        logits = logits.flatten(0, 1)
        if self.average == 'prob':
            scores = logits.softmax(dim=-1).mean(dim=0).log()
        else:
            scores = logits.mean(dim=0)
        probabilities = at_least_float32(logits).softmax(dim=-1)
        found = {
            'scores': scores,
            ENTROPY: predictive_entropy(probabilities),
            INFORMATION: mutual_information(probabilities),
        }
        if nats is not None:
            found['kl_nats'] = nats.mean(dim=0)
        return found

    def _adapted(self, feats: Sequence[Tensor]) -> dict[str, Tensor]:
        """Values of ``_summarized``, from only the samples that each image needs."""
        assert self.adaptive is not None
        self._check_noise(feats)
        if getattr(feats, 'shares_noise', False):
            raise ValueError(
                "adaptive sampling behind modulation='replace' takes samples of one "
                'pass, which share its noise, for independent ones, and stops too '
                'early: set adaptive=None'
            )
        batch_size = len(feats[0])
        images = torch.arange(batch_size, device=feats[0].device)
        counts = torch.zeros_like(images)
        logits, nats = [], []
        for attention_samples, samples in enumerate(sample_chunks(feats, 1), start=1):
            x = samples.maps[-1].unflatten(0, (samples.num_samples, -1))[:, images]
            found, latent = self._decode(
                x.flatten(0, 1), samples.num_samples, self.test_samples, images
            )
            logits.append(spread(found, images, batch_size, dim=2))
            of_latent = _nats(latent, samples.num_samples)
            if of_latent is not None:
                nats.append(spread(of_latent, images, batch_size, dim=1))
            counts[images] += samples.num_samples
            drawn = torch.cat(logits, dim=1)
            if attention_samples < self.adaptive.min_samples:
                continue
            images = images[~self.adaptive.settled(drawn[:, :, images])]
            if not len(images):
                break

        def summarized(images: Tensor, count: int) -> dict[str, Tensor]:
            divergence = torch.cat(nats)[:count, images] if nats else None
            return self._summarized(drawn[:, :count, images], divergence)

        return dict(by_count(counts, summarized), samples_drawn=counts)

    def _decode_samples(
        self, feats: Sequence[Tensor], latent_samples: int
    ) -> tuple[Tensor, Latent]:
        """Logits ``(L_z, L_a, B, C)`` and the latent of all attention samples."""
        self._check_noise(feats)

        def decoded(samples: Samples) -> tuple[Tensor, Latent]:
            return self._decode(samples.maps[-1], samples.num_samples, latent_samples)

        # map lets go of one chunk before it asks for the next.
        logits, latents = zip(*map(decoded, sample_chunks(feats)), strict=True)
        return torch.cat(logits, dim=1), join_latents(latents)

    def _decode(
        self, x: Tensor, count: int, latent_samples: int, images: Tensor | None = None
    ) -> tuple[Tensor, Latent]:
        """Logits ``(L_z, count, n, C)`` and latent of features ``(count·n, ...)``.

        Both are float32 also under autocast: what samples differ in is small.
        ``images`` are those of the batch that the features are of; by default all.
        """
        told = {} if images is None else {'images': images}
        latent = self.encoder(x, latent_samples, count, **told)
        logits = self.decoder(latent.samples).to(latent.samples.dtype)
        return logits.unflatten(1, (count, -1)), latent

    def _check_noise(self, feats: Sequence[Tensor]) -> None:
        if isinstance(feats, AttendedFeatures) and not feats.attention:
            return  # rebuilt from its maps, as MultiTaskHead does: it cannot tell
        noisy = getattr(feats, 'noisy', False)
        if noisy == self.encoder.has_density:
            raise ValueError(
                f'{type(self.encoder).__name__} {"with" if noisy else "without"} noise '
                'on its features: the stochastic encoders are GaussianEncoder with '
                'neck.noise=None, or NoiseEncoder with neck.noise=dict('
                "type='AdditiveNoise') or dict(type='PropagatedNoise')"
            )


def _nats(latent: Latent, count: int) -> Tensor | None:
    """Divergence of each latent, ``(count, n)``, where its density is known."""
    if latent.mean is None or latent.std is None:
        return None
    return kl_elements(latent.mean, latent.std).sum(dim=1).unflatten(0, (count, -1))
