"""How far a classifier's doubt, see ``aib_mm.entropy``, can be trusted."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor

from aib_mm.entropy import ENTROPY, INFORMATION, entropy, exclude_each_other
from aib_mm.errors import check_count
from aib_mm.interpret.measure.regions import check_flags, require
from aib_mm.interpret.ties import SCORE_ROUNDING, rounding_of, tie_ranks


def expected_calibration_error(
    confidence: Tensor, correct: Tensor, bins: int = 15
) -> float:
    """``ECE = sum_b (n_b / N) |accuracy_b - confidence_b|``, in [0, 1].

    Over equal bins of [0, 1], each without its lower and with its upper end; the first
    one has both (Guo et al., "On calibration of modern neural networks"). What lies
    above an end by rounding alone (``ties.SCORE_ROUNDING``) lies on it. NaN without
    samples.

    Args:
        confidence: highest class score, ``(N,)``.
        correct: ``(N,)``, bool.
        bins: number of bins.

    Raises:
        ValueError: shapes that do not fit, no bins, a confidence outside [0, 1].
    """
    check_flags('(N,)', values=confidence, flags=correct)
    check_count('bins', bins, 1)
    confidence = confidence.double()
    if ((confidence < 0) | (confidence > 1)).any():
        raise ValueError(
            f'confidence must be in [0, 1], got {confidence.min():g} to '
            f'{confidence.max():g}'
        )
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1].to(confidence)
    place = torch.bucketize(confidence - SCORE_ROUNDING, edges)
    gaps = confidence.new_zeros(bins)
    gaps.index_add_(0, place, correct.double() - confidence)
    return (gaps.abs().sum() / len(confidence)).item()


def error_detection_auroc(
    doubt: Tensor, wrong: Tensor, rounding: float = SCORE_ROUNDING
) -> float:
    """Skill of a measure of doubt in finding errors, in [0, 1]; 0.5 is chance.

    Area under the ROC curve: the chance that a wrong prediction has more doubt than a
    right one, where equal doubt counts half. NaN without errors or without hits.

    Args:
        doubt: ``(N,)``; larger is more doubtful.
        wrong: ``(N,)``, bool.
        rounding: doubts that differ by this or less are equal, see ``ties.tie_ranks``;
            unless told, what float32 loses of scores in [0, 1] and of nats.

    Raises:
        ValueError: shapes that do not fit.
    """
    check_flags('(N,)', values=doubt, flags=wrong)
    errors, hits = int(wrong.sum()), int((~wrong).sum())
    if not errors or not hits:
        return float('nan')
    tied = -tie_ranks(
        doubt.double()[None], torch.tensor([[rounding]]).to(doubt.device)
    )[0]
    _, place, counts = tied.unique(return_inverse=True, return_counts=True)
    # The mean rank, from 1, of all that are equal.
    ranks = counts.cumsum(0).double() - (counts.double() - 1) / 2
    above = ranks[place][wrong].sum() - errors * (errors + 1) / 2
    return (above / (errors * hits)).item()


@METRICS.register_module()
class PredictionUncertainty(BaseMetric):
    """Calibration and error detection of any classifier of mmpretrain.

    Reports, from ``pred_score`` and ``gt_label`` of the data samples,

    - ``ece``, the expected calibration error of the highest score;
    - ``entropy_nats``, the mean of ``predictive_entropy`` where the head wrote it
      (``AIBClsHead``), else of the entropy of ``pred_score``;
    - ``auroc_confidence`` and ``auroc_entropy``: how well one minus the highest score,
      and the entropy, find the errors;

    and where the fields are there, ``mutual_information_nats`` and
    ``auroc_mutual_information``; ``attention_std``, the mean over the pixels of the
    attention's std, and ``auroc_attention_std``. A field counts only if every data
    sample has it.

    Args:
        bins: number of bins of the calibration error.

    Raises:
        ValueError: no bins; in the evaluation, an image with several labels, or scores
            that do not sum to 1, as those of a multi-label head.
    """

    default_prefix = 'uncertainty'

    def __init__(self, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_count('bins', bins, 1)
        self.bins = bins

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        self.results += [_doubts(sample) for sample in data_samples]

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        shared = [
            name for name in results[0] if all(name in result for result in results)
        ]
        values = {
            name: torch.tensor([r[name] for r in results], dtype=torch.float64)
            for name in shared
        }
        wrong = values.pop('wrong').bool()
        confidence = values.pop('confidence')
        metrics = dict(
            ece=expected_calibration_error(confidence, ~wrong, self.bins),
            auroc_confidence=error_detection_auroc(1 - confidence, wrong),
        )
        for name, doubt in values.items():
            unit, rounding = '_nats', SCORE_ROUNDING
            if name == 'attention_std':  # may be small in all images
                unit, rounding = '', rounding_of(doubt[None]).item()
            metrics[f'{name}{unit}'] = doubt.mean().item()
            metrics[f'auroc_{name}'] = error_detection_auroc(doubt, wrong, rounding)
        return metrics


def _doubts(sample: Mapping[str, Any]) -> dict[str, float]:
    """Confidence and doubts of one image, and whether its prediction is wrong."""
    remedy = 'PredictionUncertainty is for classifiers of mmpretrain'
    scores = require(sample, 'pred_score', remedy).detach().cpu().double()
    labels = torch.as_tensor(require(sample, 'gt_label', remedy)).flatten()
    if len(labels) != 1:
        raise ValueError(
            f'PredictionUncertainty needs one label per image, got {labels.tolist()}'
        )
    if not exclude_each_other(scores):
        raise ValueError(
            'PredictionUncertainty needs classes that exclude each other, got scores '
            f'that sum to {scores.sum():g}: leave it out for a multi-label head'
        )
    found = dict(
        wrong=float(scores.argmax() != labels[0].cpu()),
        # Scores are a softmax in float32, which can exceed 1 by its rounding.
        confidence=min(scores.max().item(), 1.0),
        entropy=float(sample[ENTROPY]) if ENTROPY in sample else entropy(scores).item(),
    )
    if INFORMATION in sample:
        found[INFORMATION] = float(sample[INFORMATION])
    if 'attention_std' in sample:
        found['attention_std'] = sample['attention_std'].double().mean().item()
    return found
