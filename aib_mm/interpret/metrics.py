"""Evaluators for any host, on what aib_mm's heads write into the data samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from aib_mm.interpret.localization import (
    attention_energy,
    dilate,
    pointing_game,
    resize_map,
)


@METRICS.register_module()
class AttentionLocalization(BaseMetric):
    """How much of the mean attention lies on the object.

    Needs ``attention_mean`` ``(1, h, w)`` and a mask ``(H, W)``, non-zero on the
    object, in every data sample; the map is resized to the mask. Reports, in [0, 1]:

    - ``energy``: share of the attention on the object, and ``area``, the object's share
      of the image, which is what attention without preference gets;
    - ``pointing``: how often the maximum hits, and ``chance``, the area that counts as
      a hit, which is what a random position gets.

    Args:
        mask_key: field of the mask (``PackInputs(algorithm_keys=…)`` puts it there).
        tolerance: pixels by which the maximum may miss.
    """

    default_prefix = 'attention'

    def __init__(
        self, mask_key: str = 'gt_seg_map', tolerance: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.mask_key = mask_key
        self.tolerance = tolerance

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            _require(sample, 'attention_mean', 'use a head of aib_mm that writes it')
            _require(
                sample,
                self.mask_key,
                f'load it, and PackInputs(algorithm_keys=({self.mask_key!r},))',
            )
            mask = (torch.as_tensor(sample[self.mask_key]).cpu() > 0)[None]
            mean = sample['attention_mean'].detach().cpu().float()[None]
            attention = resize_map(mean, mask.shape[-2:])
            self.results.append(
                dict(
                    energy=attention_energy(attention, mask).item(),
                    area=mask.double().mean().item(),
                    pointing=pointing_game(attention, mask, self.tolerance).item(),
                    chance=dilate(mask, self.tolerance).double().mean().item(),
                )
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        return _means(results)


@METRICS.register_module()
class LatentInformation(BaseMetric):
    """Mean over images of ``kl_nats``, an upper bound on I(Z; X, A) (paper, Eq. 9).

    Reported as ``kl_nats`` and, the same quantity, as ``kl_bits``.
    """

    default_prefix = 'latent'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            _require(sample, 'kl_nats', 'the encoder must have a density (Gaussian)')
            nats = float(sample['kl_nats'])
            self.results.append(dict(kl_nats=nats, kl_bits=nats / float(np.log(2))))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        return _means(results)


def _require(sample: dict, key: str, remedy: str) -> None:
    if key not in sample:
        raise KeyError(f'a data sample has no {key!r}: {remedy}')


def _means(results: list[dict]) -> dict[str, float]:
    return {key: float(np.mean([r[key] for r in results])) for key in results[0]}
