"""Evaluators for any host, on what the data samples hold of attention and latent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor

from aib_mm.errors import check_count
from aib_mm.interpret.measure.localization import (
    ON_OBJECT,
    ObjectSettings,
    check_threshold,
    measure_on_object,
)
from aib_mm.interpret.measure.regions import build_region, require


@METRICS.register_module()
class AttentionLocalization(BaseMetric):
    """Measures of how much of the mean attention lies on objects.

    Needs ``attention_mean`` ``(1, h, w)`` in every data sample, which
    ``AttentionFieldsHook`` writes, and the annotation that ``region`` says. Reports
    means over the images that show an object, in [0, 1]:

    - ``energy``: share of the attention on objects, and ``area``, the objects' share
      of the image, which is what attention without preference gets;
    - ``pointing``: how often the maximum hits, and ``chance``, the area that counts as
      a hit, which is what a random position gets;
    - ``iou``: intersection over union of the objects and the positions that reach
      ``iou_threshold`` of the map's range. A constant map has all of them, and so
      ``area``;

    and ``empty``, the number of images without an object.

    Args:
        region: what an object is. ``'mask'``, a field with a mask (mmpretrain, which
            needs ``PackInputs(algorithm_keys=('gt_seg_map',))``); ``'boxes'``, the
            union of all boxes (mmdet); ``'classes'``, pixels with a label (mmseg). Or
            a dict with options, such as ``dict(type='classes', background=[0])``; see
            ``MaskRegion``, ``BoxRegion`` and ``ClassRegion``.
        tolerance: pixels by which the maximum may miss.
        iou_threshold: in [0, 1]. Half of the range unless told; the value decides how
            large a map counts as, so that it belongs beside every figure (Choe et al.,
            "Evaluating weakly supervised object localization methods right", 3.3).
        optional: report nothing, instead of an error, where no data sample has its
            attention, as under test-time augmentation.

    Raises:
        ValueError: an unknown region, a negative tolerance, another threshold.
    """

    default_prefix = 'attention'

    def __init__(
        self,
        region: str | dict = 'mask',
        tolerance: int = 1,
        iou_threshold: float = 0.5,
        optional: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.optional = optional
        check_count('tolerance', tolerance, 0)
        check_threshold('iou_threshold', iou_threshold)
        self.region = build_region(region)
        self.settings = ObjectSettings(tolerance, iou_threshold)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        remedy = (
            "add dict(type='AttentionFieldsHook') to custom_hooks; it has nothing to "
            'write where predictions of several passes are merged (test-time '
            'augmentation): there set optional=True, to report nothing'
        )
        for sample in data_samples:
            if self.optional and 'attention_mean' not in sample:
                self.results.append({})
                continue
            mean = require(sample, 'attention_mean', remedy).detach().cpu().float()
            self.results.append(self._measure(*self.region(mean, sample)))

    def _measure(self, attention: Tensor, mask: Tensor) -> dict[str, float] | None:
        """Measures of one image; None without an object."""
        if not mask.any():
            return None
        found = measure_on_object(attention[None], mask[None], self.settings)
        return {name: value.item() for name, value in found.items()}

    def compute_metrics(self, results: list[dict | None]) -> dict[str, float]:
        measured = [result for result in results if result != {}]
        if self.optional and not measured:
            return {}
        found = [result for result in measured if result is not None]
        means = _means(found) if found else dict.fromkeys(ON_OBJECT, float('nan'))
        return dict(means, empty=len(measured) - len(found))


@METRICS.register_module()
class LatentInformation(BaseMetric):
    """Mean over images of ``kl_nats``, an upper bound on I(Z; X, A) (paper, Eq. 9).

    Reported as ``kl_nats`` and, the same quantity, as ``kl_bits``.

    Args:
        optional: report nothing, instead of an error, where the latent has no known
            density (``NoiseEncoder``) or there is none.
    """

    default_prefix = 'latent'

    def __init__(self, optional: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.optional = optional

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        remedy = (
            'the encoder must have a density (Gaussian); or set optional=True, to '
            'report nothing then'
        )
        for sample in data_samples:
            if self.optional and 'kl_nats' not in sample:
                self.results.append(None)
                continue
            nats = float(require(sample, 'kl_nats', remedy))
            self.results.append(dict(kl_nats=nats, kl_bits=nats / float(np.log(2))))

    def compute_metrics(self, results: list[dict | None]) -> dict[str, float]:
        found = [result for result in results if result is not None]
        return _means(found) if found else {}


def _means(results: list[dict]) -> dict[str, float]:
    return {key: float(np.mean([r[key] for r in results])) for key in results[0]}
