"""What an image really shows, as far as its data sample knows, and how much was found.

Boxes, label maps and masks of any host become one outline for the page, the pixels that
attention is measured on, and tallies that ``class_summary`` puts together.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from aib_mm.interpret.draw.pictures import outline, svg
from aib_mm.interpret.measure.localization import attention_energy
from aib_mm.interpret.record.geometry import boxes_mask
from aib_mm.interpret.result import AttentionResult
from aib_mm.utils.tables import Column

MIN_IOU = 0.5
IGNORED = 255
#: Classes of these names are no objects.
BACKGROUND = ('background', '__background__')

HIT_RATE = Column('hit rate', 'share of the images of the class that are predicted so')
IOU = Column('IoU', 'intersection over union of the pixels of all images')
AP = Column(
    'AP50',
    'average precision at IoU 0.5 of all boxes whatever their score: the area under '
    'the curve of precision, made falling, over recall',
)
#: What makes a prediction right, by the measure of its task, from which quality on.
RIGHT = {
    HIT_RATE: 'the predicted class is the true one; of several, exactly these',
    AP: 'F1 of the boxes at least {:.2g}',
    IOU: 'mean IoU over the classes of the image at least {:.2g}',
}


class Tally(NamedTuple):
    """What one image says of one class.

    Attributes:
        hits: boxes, each 1 if it found an object; else one number, pixels or images.
        total: objects, pixels of the union, or images.
        scores: the boxes' scores, ``(n,)``; empty where there are no boxes.
    """

    hits: NDArray[np.float64]
    total: float
    scores: NDArray[np.float64] = np.empty(0)


class Truth(NamedTuple):
    """What is there.

    Attributes:
        measure: what ``class_summary`` makes of the tallies; None without truth.
        tallies: by class.
        outline: the objects' borders, an SVG over the image, or ''.
        objects: the objects' pixels ``(H, W)``, or None where unknown.
    """

    measure: Column | None = None
    tallies: Mapping[int, Tally] = {}
    outline: str = ''
    objects: NDArray[np.bool_] | None = None

    def on_objects(self, attention: NDArray[np.floating]) -> dict[str, float]:
        """Shares of attention and image on the objects, and the former by the latter.

        Empty where there is no object or nothing else.
        """
        if self.objects is None or not 0 < self.objects.mean() < 1:
            return {}
        maps, masks = torch.from_numpy(attention), torch.from_numpy(self.objects)
        energy, area = attention_energy(maps[None], masks[None]).item(), masks.double()
        share = area.mean().item()
        return dict(on_object=energy, object_area=share, preference=energy / share)


class ClassRow(NamedTuple):
    """One class over all images; NaN where nothing was measured.

    Attributes:
        label: index of the class.
        images: images that truly show it.
        value: what ``Truth.measure`` says, in [0, 1].
        preference: mean of that of ``Truth.on_objects`` over these images.
    """

    label: int
    images: int
    value: float
    preference: float


def truth_of(result: AttentionResult, classes: Sequence[str]) -> Truth:
    """The truth of a result, from the annotations in its data sample."""
    sample = result.prediction
    instances = sample.get('gt_instances')
    if instances is not None and 'bboxes' in instances:
        return _of_boxes(sample, result.image.shape, classes)
    if 'pred_sem_seg' in sample and 'data' in sample.get('gt_sem_seg', ()):
        return _of_label_map(sample, classes)
    true, found = result.outcome.true, result.outcome.predicted
    if true is None:
        return Truth()
    tallies = {i: Tally(np.array([float(i in found)]), 1.0) for i in true}
    mask = sample.get('gt_seg_map')
    if mask is None or np.shape(mask) != result.image.shape[:2]:
        return Truth(HIT_RATE, tallies)
    objects = np.asarray(mask) > 0
    return Truth(HIT_RATE, tallies, svg(objects.shape, outline(objects)), objects)


def class_summary(done: Iterable[tuple[Truth, Mapping[str, Any]]]) -> list[ClassRow]:
    """Every class that is there, the worst first, from truth and numbers of images."""
    tallies: dict[int, list[Tally]] = defaultdict(list)
    preferences: dict[int, list[float]] = defaultdict(list)
    images: dict[int, int] = defaultdict(int)
    for truth, row in done:
        for label, tally in truth.tallies.items():
            tallies[label].append(tally)
        for label in set(row['true'] or ()):
            images[label] += 1
            if row.get('preference') is not None:
                preferences[label].append(row['preference'])
    rows = [
        ClassRow(
            label,
            count,
            _value(tallies[label]),
            float(np.mean(preferences[label])) if preferences[label] else np.nan,
        )
        for label, count in images.items()
    ]
    return sorted(rows, key=lambda row: (row.value, row.label))


def _value(tallies: Sequence[Tally]) -> float:
    """Average precision where there are boxes, else the share of hits."""
    hits = np.concatenate([np.empty(0), *(tally.hits for tally in tallies)])
    total = sum(tally.total for tally in tallies)
    if not total:
        return np.nan
    scores = np.concatenate([np.empty(0), *(tally.scores for tally in tallies)])
    if len(scores) != len(hits):
        return float(hits.sum() / total)
    hits = hits[np.argsort(-scores, kind='stable')]
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((falling * hits).sum() / total)


def _of_boxes(sample: Any, shape: Sequence[int], classes: Sequence[str]) -> Truth:
    boxes, labels = _boxes(sample.gt_instances)
    found, found_labels = _boxes(sample.pred_instances)
    scores = sample.pred_instances.scores.double().cpu()
    tallies = {}
    for label in torch.cat([labels, found_labels]).unique().tolist():
        own = found_labels == label
        order = scores[own].argsort(descending=True, stable=True)
        hits = _hits(found[own][order], boxes[labels == label])
        total = int((labels == label).sum())
        tallies[label] = Tally(hits, total, scores[own][order].numpy())
    size, width = max(shape[:2]) / 22, max(shape[:2]) / 100
    lines, texts = [], []
    for (left, top, right, bottom), label in zip(
        boxes.tolist(), labels.tolist(), strict=True
    ):
        lines.append(f'M{left:g} {top:g}H{right:g}V{bottom:g}H{left:g}Z')
        above = top - width if top > size + width else bottom + size
        texts.append(_text(left, above, label, classes))
    objects = boxes_mask(boxes, (shape[0], shape[1])).numpy()
    given = sample.gt_instances.get('masks')  # of mmdet's types
    masks = np.empty(0, bool) if given is None else given.to_ndarray().astype(bool)
    if masks.shape == (len(boxes), *shape[:2]) and len(boxes):
        lines, objects = [outline(mask) for mask in masks], masks.max(axis=0)
    drawing = svg(shape, ''.join(lines), ''.join(texts))
    return Truth(AP, tallies, drawing, objects)


def _text(x: float, y: float, label: int, classes: Sequence[str]) -> str:
    name = classes[label] if label < len(classes) else str(label)
    return f'<text x="{x:g}" y="{y:g}">{escape(name)}</text>'


def _boxes(instances: Any) -> tuple[Tensor, Tensor]:
    boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
    return boxes.double().cpu(), instances.labels.cpu()


def _hits(found: Tensor, boxes: Tensor) -> NDArray[np.float64]:
    """1 for each box that is the first on the object it fits best; the surest first."""
    hits, taken = np.zeros(len(found)), set()
    if not len(boxes):
        return hits
    ious = box_iou(found, boxes).nan_to_num()  # boxes without an area
    for i, (iou, best) in enumerate(zip(*ious.max(dim=1), strict=True)):
        if iou >= MIN_IOU and int(best) not in taken:
            taken.add(int(best))
            hits[i] = 1
    return hits


def _of_label_map(sample: Any, classes: Sequence[str]) -> Truth:
    truth = sample.gt_sem_seg.data.cpu().numpy().squeeze(0).astype(np.int64)
    found = sample.pred_sem_seg.data.cpu().numpy().squeeze(0)
    known = truth != IGNORED
    tallies = {}
    for label in np.unique(np.concatenate([truth[known], found[known]])).tolist():
        there, said = truth == label, (found == label) & known
        hits = np.array([float((there & said).sum())])
        tallies[label] = Tally(hits, float((there | said).sum()))
    names = [i for i, name in enumerate(classes) if name.lower() in BACKGROUND]
    objects = known & ~np.isin(truth, names)
    texts = []
    for label in np.unique(truth[objects]).tolist():
        y, x = np.argwhere(truth == label)[0].tolist()  # its first pixel from above
        texts.append(_text(x, y + max(truth.shape) / 36, label, classes))
    # What is no object is 0, as what lies outside of the image.
    lines = outline(np.where(objects, truth + 1, 0))
    drawing = svg(truth.shape, lines, ''.join(texts))
    return Truth(IOU, tallies, drawing, objects)
