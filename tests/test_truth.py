"""What the page knows of the truth, against counting by hand and the hosts' metrics."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from aib_mm.interpret.draw.truth import (
    AP,
    HIT_RATE,
    IOU,
    Truth,
    class_summary,
    truth_of,
)
from aib_mm.interpret.result import Outcome

CLASSES = ('cat', '<b>&', 'bird')


def make_result(shape: tuple[int, int], outcome: Outcome, **fields: Any) -> Any:
    image = np.zeros((*shape, 3), np.uint8)
    sample = BaseDataElement(**fields)
    return SimpleNamespace(image=image, outcome=outcome, prediction=sample)


def boxes_result(seed: int) -> Any:
    """Up to six objects, and boxes near them and elsewhere, in 64 × 48 pixels."""
    random = torch.Generator().manual_seed(seed)
    count = 1 + seed % 6
    corner = torch.rand(count, 2, generator=random) * torch.tensor([40.0, 30.0])
    boxes = torch.cat([corner, corner + 12], 1)
    labels = torch.randint(3, (count,), generator=random)
    near = boxes.repeat(3, 1) + 5 * torch.rand(3 * count, 4, generator=random) - 2.5
    said = torch.where(
        torch.rand(3 * count, generator=random) < 0.7,
        labels.repeat(3),
        torch.randint(3, (3 * count,), generator=random),
    )
    scores = torch.rand(3 * count, generator=random)
    return make_result(
        (48, 64),
        Outcome((), tuple(labels.unique().tolist())),
        gt_instances=InstanceData(bboxes=boxes, labels=labels),
        pred_instances=InstanceData(bboxes=near, labels=said, scores=scores),
    )


def test_average_precision_is_that_of_mmdet() -> None:
    mean_ap = pytest.importorskip('mmdet.evaluation.functional.mean_ap')
    results = [boxes_result(seed) for seed in range(12)]
    done = [
        (truth_of(one, CLASSES), dict(true=one.outcome.true, preference=None))
        for one in results
    ]
    assert all(truth.measure is AP for truth, _ in done)
    found, there = [], []
    for one in results:
        said, true = one.prediction.pred_instances, one.prediction.gt_instances
        rows = torch.cat([said.bboxes, said.scores[:, None]], 1).numpy()
        found.append([rows[said.labels.numpy() == label] for label in range(3)])
        there.append(dict(bboxes=true.bboxes.numpy(), labels=true.labels.numpy()))
    _, expected = mean_ap.eval_map(found, there, iou_thr=0.5, logger='silent')
    rows = {row.label: row for row in class_summary(done)}
    for label, one in enumerate(expected):
        assert rows[label].value == pytest.approx(float(one['ap']), abs=1e-6)
        assert 0 < rows[label].value < 1
        images = sum(label in result.outcome.true for result in results)
        assert rows[label].images == images


def test_boxes_are_outlined_and_named_and_measured() -> None:
    boxes = torch.tensor([[4.0, 30.0, 20.0, 40.0]])
    truth = truth_of(
        make_result(
            (48, 64),
            Outcome((), (1,)),
            gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([1])),
            pred_instances=InstanceData(
                bboxes=torch.zeros(0, 4), labels=torch.zeros(0), scores=torch.zeros(0)
            ),
        ),
        CLASSES,
    )
    assert (
        'M4 30H20V40H4Z' in truth.outline and '&lt;b&gt;&amp;</text>' in truth.outline
    )
    assert truth.objects is not None and truth.objects.sum() == 16 * 10
    assert truth.objects[30:40, 4:20].all()
    assert class_summary([(truth, dict(true=(1,)))])[0].value == 0


def test_masks_of_instances_are_the_objects_where_they_are_known() -> None:
    structures = pytest.importorskip('mmdet.structures.mask')
    masks = np.zeros((2, 8, 9), np.uint8)
    masks[0, 2, 3] = masks[1, 5:7, 5:7] = 1
    boxes = torch.tensor([[2.0, 1.0, 5.0, 4.0], [4.0, 4.0, 8.0, 8.0]])
    truth = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2]))
    said = InstanceData(bboxes=boxes, labels=truth.labels, scores=torch.ones(2))
    fields = dict(gt_instances=truth, pred_instances=said)
    for size, expected in (((8, 9), masks.any(0)), ((9, 9), None)):
        truth.masks = structures.BitmapMasks(masks, 8, 9)
        found = truth_of(make_result(size, Outcome((), (0, 2)), **fields), CLASSES)
        if expected is None:  # of another frame: the boxes
            assert found.objects is not None and found.objects.sum() == 9 + 16
            assert 'H' in found.outline
        else:
            assert np.array_equal(found.objects, expected)
            assert 'M3 2h1' in found.outline and '>bird</text>' in found.outline


def test_a_label_map_of_another_kind_is_left_out() -> None:
    """As mmdet's panoptic data samples hold it."""
    stuff = PixelData(sem_seg=torch.zeros(1, 4, 4))
    result = make_result((4, 4), Outcome((0,), (0,)), gt_sem_seg=stuff)
    assert truth_of(result, CLASSES).outline == ''


def test_iou_of_a_class_is_of_the_pixels_of_all_images() -> None:
    random = np.random.default_rng(0)
    done, shared, either = [], np.zeros(3), np.zeros(3)
    for _ in range(4):
        true = random.choice([0, 1, 2, 255], (8, 9), p=[0.5, 0.2, 0.2, 0.1])
        found = random.integers(0, 3, (8, 9))
        for t, f in zip(true.flat, found.flat, strict=True):
            if t == 255:
                continue
            either[t] += 1
            shared[t] += t == f
            either[f] += t != f
        fields = dict(
            gt_sem_seg=PixelData(data=torch.from_numpy(true)[None]),
            pred_sem_seg=PixelData(data=torch.from_numpy(found)[None]),
        )
        result = make_result((8, 9), Outcome((), (0, 1, 2)), **fields)
        truth = truth_of(result, ('background', 'a', 'b'))
        assert truth.measure is IOU and truth.outline.count('</text>') == 2
        assert np.array_equal(truth.objects, (true > 0) & (true < 255))
        done.append((truth, dict(true=(0, 1, 2), preference=0.5)))
    rows = class_summary(done)
    assert [row.value for row in rows] == sorted(shared / either)
    for row in rows:
        assert row.value == shared[row.label] / either[row.label]
        assert (row.images, row.preference) == (4, 0.5)


def test_hit_rate_of_a_class_and_the_worst_first() -> None:
    said = [(0, 0), (0, 1), (0, 0), (1, 1), (1, 0), (2, 0)]
    done = []
    for i, (true, found) in enumerate(said):
        result = make_result((4, 4), Outcome((found,), (true,)))
        done.append(
            (truth_of(result, CLASSES), dict(true=(true,), preference=float(i)))
        )
    assert done[0][0].measure is HIT_RATE and done[0][0].outline == ''
    assert class_summary(done) == [
        (2, 1, 0.0, 5.0),
        (1, 2, 0.5, 3.5),
        (0, 3, pytest.approx(2 / 3), 1.0),
    ]


def test_a_mask_of_another_size_is_no_outline() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 1] = 1
    outcome = Outcome((0,), (0,))
    same = truth_of(make_result((4, 4), outcome, gt_seg_map=mask), CLASSES)
    assert 'M1 1h1' in same.outline and same.objects.sum() == 1
    other = truth_of(make_result((5, 4), outcome, gt_seg_map=mask), CLASSES)
    assert other.outline == '' and other.objects is None


def test_against_chance_tells_object_from_background() -> None:
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    truth = Truth(objects=mask)
    # A quarter of the image, which has half of what is above the least value.
    attention = np.zeros((4, 4), np.float32)
    attention[0, 0] = attention[3, 3] = 1
    assert truth.on_objects(attention + 5) == pytest.approx(
        dict(on_object=0.5, object_area=0.25, preference=2.0)
    )
    assert truth.on_objects(np.full((4, 4), 3.0))['preference'] == pytest.approx(1.0)
    attention[0] = 0
    assert truth.on_objects(attention)['preference'] == 0
    for nothing in (np.zeros((4, 4), bool), np.ones((4, 4), bool), None):
        assert Truth(objects=nothing).on_objects(attention) == {}


def test_without_truth_there_is_nothing() -> None:
    assert truth_of(make_result((4, 4), Outcome((0,))), CLASSES) == Truth()
    assert class_summary([(Truth(), dict(true=None))]) == []
