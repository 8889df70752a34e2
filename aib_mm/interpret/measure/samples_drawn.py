"""Numbers of samples of predictions, where they do not all take the same number."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from aib_mm.interpret.measure.regions import require


@METRICS.register_module()
class SamplesDrawn(BaseMetric):
    """Mean number of samples an image of a classifier with adaptive sampling got.

    Reports ``samples/mean``, and ``samples/most``, the largest of an image, from the
    field ``samples_drawn`` of the data samples.

    Raises:
        KeyError: in the evaluation, predictions without this field.
    """

    default_prefix = 'samples'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        remedy = 'set adaptive=dict() in the AIBClsHead'
        self.results += [
            int(require(sample, 'samples_drawn', remedy)) for sample in data_samples
        ]

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        return dict(mean=sum(results) / len(results), most=float(max(results)))
