"""RoI heads that draw samples of the attention and of the latents (paper, 4.2.5).

proposals (one set, from the RPN) ──┐
x_att, L_a samples ── RoI features ─┴─ z, L_z samples ── scores, deltas ── average
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS as HOST_MODELS
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn

from aib_mm.detection.gaussian_bbox_head import GaussianBBoxHead, Latents
from aib_mm.encoders import cat_known
from aib_mm.errors import check_count, choose
from aib_mm.features import (
    AttendedFeatures,
    ExpectedFeatures,
    Samples,
    all_samples,
    expected_features,
    sample_chunks,
    take_losses,
)
from aib_mm.registry import MODELS

AVERAGES = ('logit', 'prob')

Features = Sequence[Tensor]


class RoISamples(NamedTuple):
    """The predictions for n RoIs, for each of S = L_z·L_a samples.

    ``scores`` are ``(S, n, num_classes + 1)`` and ``deltas`` ``(S, n, 4·…)``, or None
    where the head has no such branch; ``latents`` are those of all L_a samples.
    ``bbox_feats`` ``(n, C, h, w)`` are those of the first sample, or None where they
    were not kept.
    """

    scores: Tensor | None
    deltas: Tensor | None
    latents: Latents
    bbox_feats: Tensor | None


class _GaussianRoIs(BaseRoIHead):
    """What both RoI heads do with all samples at once.

    The RPN and the mask head see one set of maps (``AttendedFeatures`` as a tuple), so
    that proposals are shared by all samples and masks cost no more.
    """

    def __init__(
        self,
        *args: Any,
        test_samples: int | None = None,
        average: str = 'logit',
        sample_above: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        choose('average', average, AVERAGES)
        self.average = average
        self.sample_above = sample_above
        if sample_above is not None and not 0 < sample_above < 1:
            raise ValueError(f'sample_above must be in (0, 1), got {sample_above!r}')
        for head in self._bbox_heads():
            if not isinstance(head, GaussianBBoxHead):
                raise ValueError(
                    f'{type(self).__name__} draws from a latent, which '
                    f'{type(head).__name__} does not have: set '
                    "bbox_head.type='GaussianBBoxHead'"
                )
            if average == 'prob' and head.custom_activation:
                raise ValueError(
                    f"average='prob' averages softmax, but {type(head.loss_cls)} has "
                    "an activation of its own: use average='logit'"
                )
            if sample_above is not None and head.custom_activation:
                raise ValueError(
                    f'sample_above={sample_above} compares softmax, but '
                    f'{type(head.loss_cls)} has an activation of its own: leave it out'
                )
            if test_samples is not None:
                check_count('test_samples', test_samples, 0)
                head.test_samples = test_samples

    def _bbox_heads(self) -> list[nn.Module]:
        head = self.bbox_head
        return list(head) if isinstance(head, nn.ModuleList) else [head]

    def forward(self, x: Features, *args: Any, **kwargs: Any) -> tuple:
        """The host's forward pass, nothing drawn here: ``mode='tensor'``.

        The proposals come from an RPN that saw the sampled maps: the result is the same
        every time only with ``neck.test_samples=0``.
        """
        maps = x.expected if isinstance(x, AttendedFeatures) else ExpectedFeatures(x)
        return super().forward(maps, *args, **kwargs)

    def _draw(
        self, samples: Samples, rois: Tensor, latent_samples: int, stage: int | None
    ) -> RoISamples:
        """Scores and deltas of ``rois`` ``(n, 5)`` under each of these samples."""
        maps, count = samples
        extractor = _of_stage(self.bbox_roi_extractor, stage)
        head = _of_stage(self.bbox_head, stage)
        bbox_feats = extractor(
            maps[: extractor.num_inputs], _repeat(rois, count, len(maps[0]) // count)
        )
        if self.with_shared_head:
            bbox_feats = self.shared_head(bbox_feats)
        latents = head.encode(bbox_feats, latent_samples, count)
        scores, deltas = (
            None if out is None else out.unflatten(1, (count, -1)).flatten(0, 1)
            for out in head.decode(latents)
        )
        return RoISamples(scores, deltas, latents, bbox_feats[: len(rois)])

    def _predicted(
        self, x: Features, rois: Tensor, stage: int | None = None
    ) -> dict[str, Tensor | None]:
        """The average over samples, as the host's ``_bbox_forward`` gives it.

        With ``sample_above`` a first pass under the mean map and the mean latents picks
        the RoIs that are worth samples; it is what the others are predicted by.

        Raises:
            RuntimeError: in training, where ``_losses`` is what the host asks for.
        """
        _refuse_noise(self, x)
        head = _of_stage(self.bbox_head, stage)
        if isinstance(x, ExpectedFeatures):
            return self._sampled(x, rois, 0, stage)
        if self.training:
            raise RuntimeError(
                f'{type(self).__name__} computes its losses itself: who asks it for '
                'predictions in training, as SoftTeacher does, loses those of the '
                "bottleneck: use roi_head=dict(type='StandardRoIHead', bbox_head="
                "dict(type='Shared2FCBBoxHead', ...)) and dict(type='AIBLossHook') in "
                "custom_hooks, or SemiBaseDetector in SoftTeacher's place"
            )
        if self.sample_above is None or not head.with_cls:
            return self._sampled(x, rois, head.num_samples, stage)
        found = self._sampled(expected_features(x), rois, 0, stage)
        assert found['cls_score'] is not None
        scores = found['cls_score'].softmax(dim=-1)[:, :-1].amax(dim=-1)
        worth = (scores > self.sample_above).nonzero().flatten()
        if len(worth):
            drawn = self._sampled(x, rois[worth], head.num_samples, stage)
            for name in ('cls_score', 'bbox_pred'):
                of_all, of_some = found[name], drawn[name]
                if of_all is not None and of_some is not None:
                    found[name] = of_all.index_copy(0, worth, of_some)
        return found

    def _sampled(
        self, x: Features, rois: Tensor, latent_samples: int, stage: int | None
    ) -> dict[str, Tensor | None]:
        """The average over all samples of the attention and of the latents."""
        total = x.num_samples if isinstance(x, AttendedFeatures) else 1

        def predictions(samples: Samples) -> RoISamples:
            found = self._draw(samples, rois, latent_samples, stage)
            if samples.num_samples == total:
                return found
            return found._replace(latents={}, bbox_feats=None)

        # map lets go of one chunk before it asks for the next.
        return self._averaged(_joined(list(map(predictions, sample_chunks(x)))))

    def _averaged(self, samples: RoISamples) -> dict[str, Tensor | None]:
        """Average over samples, as the host's ``_bbox_forward`` gives it for one."""
        scores, deltas = samples.scores, samples.deltas
        if scores is not None:
            if self.average == 'prob':
                # Not the log of a mean, which is -inf where all samples are sure.
                logs = scores.log_softmax(dim=-1)
                scores = logs.logsumexp(dim=0) - math.log(len(logs))
            else:
                scores = scores.mean(dim=0)
        return dict(
            cls_score=scores,
            bbox_pred=None if deltas is None else deltas.mean(dim=0),
            bbox_feats=samples.bbox_feats,
        )

    def _losses(
        self,
        x: Features,
        sampling_results: list[SamplingResult],
        stage: int | None = None,
    ) -> dict[str, Any]:
        """Task loss averaged over samples (paper, Eq. 12, 23), and the bottleneck's."""
        rois = bbox2roi([result.priors for result in sampling_results])
        _refuse_noise(self, x)
        head = _of_stage(self.bbox_head, stage)
        head.check_neck(x)
        samples = self._draw(all_samples(x), rois, head.num_samples, stage)
        some = samples.deltas if samples.scores is None else samples.scores
        assert some is not None
        count = len(some)
        # All samples as one large batch: the host divides by its size.
        found = head.loss_and_target(
            cls_score=None if samples.scores is None else samples.scores.flatten(0, 1),
            bbox_pred=None if samples.deltas is None else samples.deltas.flatten(0, 1),
            rois=rois.repeat(count, 1),
            sampling_results=sampling_results * count,
            rcnn_train_cfg=_of_stage(self.train_cfg, stage),
        )
        losses = found['loss_bbox']
        losses.update(head.bottleneck_loss(samples.latents, take_losses(x)))
        targets = tuple(target[: len(rois)] for target in found['bbox_targets'])
        return dict(
            self._averaged(samples), loss_bbox=losses, bbox_targets=targets, rois=rois
        )


@HOST_MODELS.register_module()
@MODELS.register_module()
class GaussianRoIHead(_GaussianRoIs, StandardRoIHead):
    """``StandardRoIHead`` with a ``GaussianBBoxHead``.

    Behind ``AIBAttention`` every RoI is predicted under each sample of the attention
    and of the latents; class logits and box deltas are averaged at test, the losses in
    training. A mask head sees the features under the mean of the sampled maps.

    Args:
        test_samples: L_z at test instead of the box head's; 0 takes the mean latents.
        average: at test, class scores are averaged as ``'logit'`` or as ``'prob'``.
        sample_above: draw samples, at test, only of the RoIs whose best class scores
            more than this, in (0, 1), under the mean map and the mean latents; that
            prediction stands for all others. At most the ``score_thr`` of the test:
            a RoI below it is dropped. None draws of all.
        args, kwargs: arguments of ``StandardRoIHead``.

    Raises:
        ValueError: an unknown choice, or a box head without latents.
    """

    def _bbox_forward(self, x: Features, rois: Tensor) -> dict[str, Tensor | None]:
        return self._predicted(x, rois)

    def bbox_loss(
        self, x: Features, sampling_results: list[SamplingResult]
    ) -> dict[str, Any]:
        """The host's losses; ``loss_bbox`` also has the bottleneck's terms."""
        return self._losses(x, sampling_results)


@HOST_MODELS.register_module()
@MODELS.register_module()
class GaussianCascadeRoIHead(_GaussianRoIs, CascadeRoIHead):
    """``CascadeRoIHead`` with a ``GaussianBBoxHead`` in every stage.

    Each stage has its latents and refines the boxes by the average over its samples, so
    that all samples share the proposals of every stage. A stage's divergence has the
    stage's weight; the quantisation losses are in the first one.

    Args:
        test_samples: L_z at test, see ``GaussianRoIHead``.
        average: what is averaged at test, see ``GaussianRoIHead``.
        sample_above: what is sampled at test, see ``GaussianRoIHead``.
        args, kwargs: arguments of ``CascadeRoIHead``.

    Raises:
        ValueError: an unknown choice, or a box head without latents.
    """

    def _bbox_forward(
        self, stage: int, x: Features, rois: Tensor
    ) -> dict[str, Tensor | None]:
        return self._predicted(x, rois, stage)

    def bbox_loss(
        self, stage: int, x: Features, sampling_results: list[SamplingResult]
    ) -> dict[str, Any]:
        """The host's losses; ``loss_bbox`` also has the bottleneck's terms."""
        return self._losses(x, sampling_results, stage)


def _of_stage(part: Any, stage: int | None) -> Any:
    """What belongs to a stage; where there are none, the whole."""
    return part if stage is None else part[stage]


def _joined(parts: Sequence[RoISamples]) -> RoISamples:
    """The predictions of all chunks; what was not kept of a chunk is not there."""
    if len(parts) == 1:
        return parts[0]
    scores = cat_known([part.scores for part in parts])
    deltas = cat_known([part.deltas for part in parts])
    return RoISamples(scores, deltas, {}, None)


def _refuse_noise(head: nn.Module, x: Features) -> None:
    if getattr(x, 'noisy', False):
        raise ValueError(
            f'{type(head).__name__} draws its latents from the features, and the '
            'neck puts noise on them as well: set neck.noise=None'
        )


def _repeat(rois: Tensor, count: int, batch_size: int) -> Tensor:
    """RoIs ``(n, 5)`` once per sample of a sample-major batch, ``(count·n, 5)``."""
    if count == 1:
        return rois
    repeated = rois.repeat(count, 1)
    offsets = batch_size * torch.arange(count, device=rois.device, dtype=rois.dtype)
    repeated[:, 0] += offsets.repeat_interleave(len(rois))
    return repeated
