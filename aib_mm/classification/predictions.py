"""A classifier's prediction of one image, drawn and put in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmpretrain.models.heads import MultiLabelClsHead
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from numpy.typing import NDArray
from torch import Tensor, nn

from aib_mm.entropy import binary_entropy, entropy, exclude_each_other
from aib_mm.interpret.result import Outcome

#: A prediction belongs to what the pipeline cropped out of the image as well.
NEEDS_WHOLE_IMAGE = False
HEAVY_FIELDS = ()
#: Short side of the picture: a label does not fit on 32 pixels.
DRAWN_SIZE = 256


def draw(
    visualizer: UniversalVisualizer,
    image: NDArray[np.uint8],
    sample: DataSample,
    min_score: float,
) -> NDArray[np.uint8]:
    """The prediction as mmpretrain draws it; ``min_score`` has no meaning here."""
    size = max(DRAWN_SIZE, min(image.shape[:2]))
    return visualizer.visualize_cls(image, sample, draw_gt=False, resize=size)


def read(
    sample: DataSample, min_score: float, model: nn.Module | None = None
) -> Outcome:
    """The classes of one image; several are true at once in a multi-label set.

    Args:
        sample: the model's prediction.
        min_score: without a meaning here.
        model: the classifier: a multi-label head of mmpretrain gives each class a
            score of its own. So do scores, whoever gave them, that do not sum to 1.
    """
    predicted = tuple(sample.pred_label.tolist())
    true = tuple(sample.gt_label.tolist()) if 'gt_label' in sample else None
    quality = None if true is None else float(set(predicted) == set(true))
    doubt = None
    if 'pred_score' in sample:
        scores = sample.pred_score.double()
        several = has_several_labels(model) or not exclude_each_other(scores)
        doubt = (binary_entropy(scores).sum() if several else entropy(scores)).item()
    return Outcome(predicted, true, quality, doubt)


def scores(
    model: nn.Module,
    data: dict[str, Any],
    predictions: Sequence[DataSample],
    min_score: float,
) -> list[Tensor | None]:
    """The logit of each predicted class, without sampling, with a graph.

    Not its probability, which hardly moves where the model is sure.

    Args:
        model: the classifier.
        data: the batch as its data preprocessor gave it.
        predictions: what it predicts for this batch.
        min_score: without a meaning here.
    """
    logits = model(data['inputs'], mode='tensor')
    if isinstance(logits, list | tuple):
        logits = logits[-1]
    labels = [int(one.pred_score.argmax()) for one in predictions]
    return [row[label] for row, label in zip(logits, labels, strict=True)]


def has_several_labels(model: nn.Module | None) -> bool:
    """Whether a classifier's head gives each class a score of its own."""
    return isinstance(getattr(model, 'head', None), MultiLabelClsHead)


def roi_extractors(model: nn.Module) -> list[nn.Module]:
    """No modules: a latent belongs to an image."""
    return []
