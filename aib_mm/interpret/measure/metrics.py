"""Evaluators for any host, on what the data samples hold of attention and latent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor

from aib_mm.errors import check_count, choose
from aib_mm.interpret.measure.localization import (
    ON_OBJECT,
    ObjectSettings,
    check_threshold,
    measure_on_object,
)
from aib_mm.interpret.measure.regions import build_region, require
from aib_mm.interpret.record.fields import FIELDS


class _FieldMetric(BaseMetric):
    """Means over images of what one field of their data samples tells.

    A subclass says what to ``measure``, and what to do where the field is missing.
    """

    remedy: str

    def __init__(self, field: str, optional: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.field = field
        self.optional = optional

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            if self.optional and self.field not in sample:
                self.results.append(None)
            else:
                value = require(sample, self.field, self.remedy)
                self.results.append(self.measure(value, sample))

    def measure(self, value: Any, sample: dict) -> dict[str, float]:
        """What one image gives; nothing if it does not count."""
        raise NotImplementedError

    def compute_metrics(self, results: list[dict | None]) -> dict[str, float]:
        found = [result for result in results if result]
        names = found[0] if found else ()
        return {name: float(np.mean([one[name] for one in found])) for name in names}


@METRICS.register_module()
class AttentionLocalization(_FieldMetric):
    """Measures of how much of a map lies on objects: the mean attention, or its bits.

    Needs the ``field`` ``(1, h, w)`` in every data sample, which
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
        field: ``'attention_mean'``, or ``'attention_bits'``, what each position lets
            through; beside the other one with a ``prefix`` of its own.

    Raises:
        ValueError: an unknown region, a negative tolerance, another threshold.
    """

    default_prefix = 'attention'
    remedy = (
        "add dict(type='AttentionFieldsHook') to custom_hooks; it writes bits where "
        "the neck has modulation='replace', and nothing where predictions of several "
        'passes are merged (test-time augmentation): there set optional=True, to '
        'report nothing'
    )

    def __init__(
        self,
        region: str | dict = 'mask',
        tolerance: int = 1,
        iou_threshold: float = 0.5,
        optional: bool = False,
        field: str = 'attention_mean',
        **kwargs: Any,
    ) -> None:
        super().__init__(field, optional, **kwargs)
        choose('field', field, FIELDS)
        check_count('tolerance', tolerance, 0)
        check_threshold('iou_threshold', iou_threshold)
        self.region = build_region(region)
        self.settings = ObjectSettings(tolerance, iou_threshold)

    def measure(self, value: Tensor, sample: dict) -> dict[str, float]:
        placed, mask = self.region(value.detach().cpu().float(), sample)
        if not mask.any():
            return {}
        found = measure_on_object(placed[None], mask[None], self.settings)
        return {name: value.item() for name, value in found.items()}

    def compute_metrics(self, results: list[dict | None]) -> dict[str, float]:
        measured = [result for result in results if result is not None]
        if self.optional and not measured:
            return {}
        means = super().compute_metrics(results) or dict.fromkeys(ON_OBJECT, np.nan)
        return dict(means, empty=measured.count({}))


@METRICS.register_module()
class LatentInformation(_FieldMetric):
    """Mean over images of ``kl_nats``, an upper bound on I(Z; X, A) (paper, Eq. 9).

    Reported as ``kl_nats`` and, the same quantity, as ``kl_bits``.

    Args:
        optional: report nothing, instead of an error, where the latent has no known
            density (``NoiseEncoder``) or there is none.
    """

    default_prefix = 'latent'
    remedy = (
        'the encoder must have a density (Gaussian); or set optional=True, to report '
        'nothing then'
    )

    def __init__(self, optional: bool = False, **kwargs: Any) -> None:
        super().__init__('kl_nats', optional, **kwargs)

    def measure(self, value: Any, sample: dict) -> dict[str, float]:
        return dict(kl_nats=float(value), kl_bits=float(value) / float(np.log(2)))


@METRICS.register_module()
class SamplesDrawn(_FieldMetric):
    """Mean number of samples an image of a classifier with adaptive sampling got.

    Reports ``samples/mean``, and ``samples/most``, the largest of an image, from the
    field ``samples_drawn`` of the data samples.

    Args:
        optional: report nothing, instead of an error, where predictions lack this
            field, as under test-time augmentation.

    Raises:
        KeyError: in the evaluation, predictions without this field.
    """

    default_prefix = 'samples'
    remedy = (
        'set adaptive=dict() in the AIBClsHead; merged predictions (test-time '
        'augmentation) have none: there set optional=True, to report nothing'
    )

    def __init__(self, optional: bool = False, **kwargs: Any) -> None:
        super().__init__('samples_drawn', optional, **kwargs)

    def measure(self, value: Any, sample: dict) -> dict[str, float]:
        return dict(mean=float(value))

    def compute_metrics(self, results: list[dict | None]) -> dict[str, float]:
        drawn = [result['mean'] for result in results if result]
        return dict(super().compute_metrics(results), most=max(drawn)) if drawn else {}
