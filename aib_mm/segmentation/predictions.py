"""A segmentor's prediction of one image, drawn and put in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmseg.evaluation.metrics import IoUMetric
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from numpy.typing import NDArray
from torch import Tensor, nn

from aib_mm.entropy import binary_entropy, entropy
from aib_mm.interpret.result import Outcome

NEEDS_WHOLE_IMAGE = True
#: One number for each class and pixel.
HEAVY_FIELDS = ('seg_logits',)
IGNORED = 255
_SURE = 1e-6  # distance to 0 and 1 of a probability whose logit float32 can tell


def draw(
    visualizer: SegLocalVisualizer,
    image: NDArray[np.uint8],
    sample: SegDataSample,
    min_score: float,
) -> NDArray[np.uint8]:
    """The classes of the pixels as mmseg draws them; ``min_score`` is not used."""
    visualizer.add_datasample(
        'prediction', image, sample, draw_gt=False, with_labels=False
    )
    return visualizer.get_image()


def read(
    sample: SegDataSample, min_score: float, model: nn.Module | None = None
) -> Outcome:
    """The classes by the pixels they have, and the mean IoU of those in the image."""
    labels, logits = sample.pred_sem_seg.data, sample.seg_logits.data
    predicted, doubt = _by_area(labels), _entropy(logits)
    if 'gt_sem_seg' not in sample:
        return Outcome(predicted, entropy=doubt)
    truth = sample.gt_sem_seg.data.to(labels.device)
    true = tuple(label for label in _by_area(truth) if label != IGNORED)
    shared, either, *_ = IoUMetric.intersect_and_union(
        labels.squeeze(0), truth.squeeze(0), max(len(logits), 2), IGNORED
    )
    there = either > 0
    ious = shared[there] / either[there]
    return Outcome(predicted, true, ious.mean().item() if len(ious) else None, doubt)


def scores(
    model: nn.Module,
    data: dict[str, Any],
    predictions: Sequence[SegDataSample],
    min_score: float,
) -> list[Tensor | None]:
    """The sum over the pixels of the predicted class's logit, with a graph.

    Args:
        model: the segmentor.
        data: the batch as its data preprocessor gave it; predicted again.
        predictions: without a use here: they have no graph.
        min_score: without a meaning here.

    Returns:
        None for an image whose one class is nowhere.
    """
    again = model(**data, mode='predict')
    return [_score(one.seg_logits.data, one.pred_sem_seg.data) for one in again]


def roi_extractors(model: nn.Module) -> list[nn.Module]:
    """No modules: a latent belongs to a pixel."""
    return []


def _entropy(logits: Tensor) -> float:
    """Mean over pixels, nats.

    Of one channel mmseg gives the sigmoid, although it calls it ``seg_logits``: the
    probability of the class against none.
    """
    if len(logits) == 1:
        return binary_entropy(logits).mean().item()
    return entropy(logits.softmax(dim=0).movedim(0, -1)).mean().item()


def _score(logits: Tensor, labels: Tensor) -> Tensor | None:
    """Sum of the predicted classes' logits, of ``(C, H, W)`` and ``(1, H, W)``."""
    if len(logits) > 1:
        return logits.gather(0, labels.long()).sum()
    there = logits[labels > 0]
    return there.logit(eps=_SURE).sum() if len(there) else None


def _by_area(labels: Tensor) -> tuple[int, ...]:
    areas = labels.long().flatten().bincount()
    order = areas.argsort(descending=True, stable=True)
    return tuple(order[: int(areas.count_nonzero())].tolist())
