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

    Args:
        optional: report nothing, instead of an error, where predictions lack this
            field, as under test-time augmentation.

    Raises:
        KeyError: in the evaluation, predictions without this field.
    """

    default_prefix = 'samples'

    def __init__(self, optional: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.optional = optional

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        remedy = (
            'set adaptive=dict() in the AIBClsHead; merged predictions (test-time '
            'augmentation) have none: there set optional=True, to report nothing'
        )
        for sample in data_samples:
            if self.optional and 'samples_drawn' not in sample:
                self.results.append(None)
            else:
                self.results.append(int(require(sample, 'samples_drawn', remedy)))

    def compute_metrics(self, results: list[int | None]) -> dict[str, float]:
        drawn = [count for count in results if count is not None]
        if not drawn:
            return {}
        return dict(mean=sum(drawn) / len(drawn), most=float(max(drawn)))
