"""Predictions and truths of the three hosts, in the words that they share."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.structures import InstanceData, PixelData


class TestOutcome:
    """Prediction and truth in the words that all hosts share."""

    def test_of_a_class(self) -> None:
        pytest.importorskip('mmpretrain')
        from mmpretrain.structures import DataSample

        from aib_mm.classification.predictions import read

        sample = DataSample().set_pred_score(torch.tensor([0.5, 0.25, 0.25]))
        sample.set_pred_label(0)
        assert read(sample, 0.3).quality is None
        assert read(sample, 0.3).entropy == pytest.approx(1.5 * math.log(2))
        assert read(sample.set_gt_label(0), 0.3).quality == 1.0
        assert read(sample.set_gt_label(2), 0.3).true == (2,)
        assert read(sample, 0.3).quality == 0.0

    def test_of_several_labels_each_class_is_there_or_not(
        self, mmpretrain_scope: None
    ) -> None:
        pytest.importorskip('mmpretrain')
        from mmpretrain.models import LinearClsHead, MultiLabelLinearClsHead
        from mmpretrain.structures import DataSample

        from aib_mm.classification.predictions import read

        sample = DataSample().set_pred_score(torch.full((3,), 0.5))
        sample.set_pred_label(torch.tensor([0, 1]))
        # Three times a coin's ln 2, whether the head is known or not.
        assert read(sample, 0.3).entropy == pytest.approx(3 * math.log(2))
        # Sigmoids may sum to 1 by chance: then the head decides.
        sample = DataSample().set_pred_score(torch.tensor([0.5, 0.5])).set_pred_label(0)
        for head, expected in (
            (MultiLabelLinearClsHead(2, 4), 2 * math.log(2)),
            (LinearClsHead(2, 4), math.log(2)),
        ):
            found = read(sample, 0.3, SimpleNamespace(head=head))
            assert found.entropy == pytest.approx(expected)

    def test_of_boxes(self) -> None:
        pytest.importorskip('mmdet')
        from aib_mm.detection.predictions import read

        boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 5, 5]])
        found = InstanceData(
            bboxes=boxes,
            labels=torch.tensor([1, 2, 1]),
            scores=torch.tensor([0.5, 0.9, 0.1]),
        )
        truth = InstanceData(
            bboxes=torch.tensor([[0.0, 0, 10, 9], [20, 20, 30, 30]]),
            labels=torch.tensor([1, 1]),
        )
        sample = FakeSample(pred_instances=found, gt_instances=truth)
        outcome = read(sample, 0.3)
        # One hit; a box of the wrong class; a missed one.
        assert outcome.predicted == (2, 1) and outcome.true == (1,)
        assert outcome.quality == pytest.approx(2 * 1 / (2 + 2))
        mean = (math.log(2) - 0.9 * math.log(0.9) - 0.1 * math.log(0.1)) / 2
        assert outcome.entropy == pytest.approx(mean)
        assert read(sample, 0.95).quality == 0.0
        empty = FakeSample(pred_instances=found[:0], gt_instances=truth[:0])
        assert read(empty, 0.3).quality == 1.0 and read(empty, 0.3).entropy is None

    def test_of_pixels(self) -> None:
        pytest.importorskip('mmseg')
        from mmseg.structures import SegDataSample

        from aib_mm.segmentation.predictions import read

        labels = torch.tensor([[[0, 0, 1, 1]]])
        logits = torch.zeros(3, 1, 4)
        sample = SegDataSample(
            pred_sem_seg=PixelData(data=labels), seg_logits=PixelData(data=logits)
        )
        assert read(sample, 0.3).quality is None
        assert read(sample, 0.3).entropy == pytest.approx(math.log(3))
        sample.gt_sem_seg = PixelData(data=torch.tensor([[[0, 1, 1, 255]]]))
        outcome = read(sample, 0.3)
        assert outcome.predicted == (0, 1) and outcome.true == (1, 0)
        # Both classes: one pixel shared, two in either; the last does not count.
        assert outcome.quality == pytest.approx(0.5)

    def test_of_pixels_of_one_class_mmseg_gives_the_probability(self) -> None:
        pytest.importorskip('mmseg')
        from mmseg.models import EncoderDecoder
        from mmseg.structures import SegDataSample

        from aib_mm.segmentation.predictions import read

        # As mmseg hands it over: logits through its own last step.
        logits = torch.tensor([-1e4, 1e4, 0.0, math.log(3)]).view(1, 1, 1, 4)
        model = SimpleNamespace(decode_head=SimpleNamespace(threshold=0.5))
        (sample,) = EncoderDecoder.postprocess_result(model, logits)
        quarter = math.log(4) - 0.75 * math.log(3)  # the entropy of p = 3/4
        expected = (0 + 0 + math.log(2) + quarter) / 4
        assert read(sample, 0.3).entropy == pytest.approx(expected)
        certain = SegDataSample(
            pred_sem_seg=sample.pred_sem_seg,
            seg_logits=PixelData(data=torch.zeros(1, 1, 4)),
        )
        assert read(certain, 0.3).entropy == 0


class FakeSample(SimpleNamespace):
    """Fields only, where building a host's data sample would say nothing more."""

    def get(self, name: str) -> Any:
        return getattr(self, name, None)
