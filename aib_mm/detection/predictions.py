"""A detector's prediction of one image, drawn and put in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.evaluation.functional.mean_ap import tpfp_default
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aib_mm.detection.gaussian_roi_head import GaussianCascadeRoIHead, GaussianRoIHead
from aib_mm.entropy import binary_entropy
from aib_mm.interpret.result import Outcome

NEEDS_WHOLE_IMAGE = True
HEAVY_FIELDS = ()
MIN_IOU = 0.5


def draw(
    visualizer: DetLocalVisualizer,
    image: NDArray[np.uint8],
    sample: DetDataSample,
    min_score: float,
) -> NDArray[np.uint8]:
    """The boxes above ``min_score`` as mmdet draws them."""
    visualizer.add_datasample(
        'prediction', image, sample, draw_gt=False, pred_score_thr=min_score
    )
    return visualizer.get_image()


def read(
    sample: DetDataSample, min_score: float, model: nn.Module | None = None
) -> Outcome:
    """The classes of the boxes above ``min_score``, and the F1 of those boxes."""
    instances = sample.pred_instances
    found = instances[instances.scores > min_score]
    order = found.scores.argsort(descending=True)
    predicted = _once(found.labels[order])
    doubts = binary_entropy(found.scores.double())
    entropy = doubts.mean().item() if len(doubts) else None
    truth = sample.get('gt_instances')
    if truth is None or 'bboxes' not in truth:
        return Outcome(predicted, entropy=entropy)
    return Outcome(predicted, _once(truth.labels), _f1(found, truth), entropy)


def scores(
    model: nn.Module,
    data: dict[str, Any],
    predictions: Sequence[DetDataSample],
    min_score: float,
) -> list[Tensor | None]:
    """The sum of the scores of the boxes above ``min_score``, with a graph.

    mmdet's dense heads detach the scores that they predict from; here they do not.

    Args:
        model: the detector.
        data: the batch as its data preprocessor gave it; predicted again.
        predictions: without a use here: they have no graph.
        min_score: least score that counts.

    Returns:
        None for an image without such a box.
    """
    with _Attached():
        again = model(**data, mode='predict')
    found = [one.pred_instances.scores for one in again]
    above = [scores[scores > min_score] for scores in found]
    return [scores.sum() if len(scores) else None for scores in above]


class _Attached(TorchFunctionMode):
    """Inside, ``Tensor.detach`` gives the tensor itself."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return args[0] if func is Tensor.detach else func(*args, **(kwargs or {}))


def roi_extractors(model: nn.Module) -> list[nn.Module]:
    """Modules that cut out the regions whose latents ``GaussianBBoxHead`` draws."""
    found: list[nn.Module] = []
    for head in model.modules():
        if isinstance(head, GaussianRoIHead | GaussianCascadeRoIHead):
            extractor = head.bbox_roi_extractor
            several = isinstance(extractor, nn.ModuleList)
            found += list(extractor) if several else [extractor]
    return found


def _f1(found: InstanceData, truth: InstanceData) -> float:
    """F1 of the boxes found; 1 if there are no objects and nothing is found."""
    gt_boxes = getattr(truth.bboxes, 'tensor', truth.bboxes).cpu().numpy()
    gt_labels = truth.labels.cpu().numpy()
    boxes = torch.cat([found.bboxes, found.scores[:, None]], dim=1).cpu().numpy()
    labels = found.labels.cpu().numpy()
    hits = 0.0
    for label in np.unique(gt_labels):
        right, _ = tpfp_default(
            boxes[labels == label],
            gt_boxes[gt_labels == label],
            gt_bboxes_ignore=np.empty((0, 4), np.float32),
            iou_thr=MIN_IOU,
        )
        hits += float(right.sum())
    both = len(boxes) + len(gt_boxes)
    return 2 * hits / both if both else 1.0


def _once(labels: Tensor) -> tuple[int, ...]:
    """Each label once, in the order of its first place."""
    return tuple(dict.fromkeys(labels.tolist()))
