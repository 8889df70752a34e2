"""A classifier's prediction of one image, drawn and put in words."""

import numpy as np
import torch
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from numpy.typing import NDArray
from torch import nn

from aib_mm.interpret.record.outcome import Outcome

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


def read(sample: DataSample, min_score: float) -> Outcome:
    """The classes of one image; several are true at once in a multi-label set."""
    predicted = tuple(sample.pred_label.tolist())
    true = tuple(sample.gt_label.tolist()) if 'gt_label' in sample else None
    quality = None if true is None else float(set(predicted) == set(true))
    scores = sample.pred_score if 'pred_score' in sample else None
    entropy = None if scores is None else torch.special.entr(scores).sum().item()
    return Outcome(predicted, true, quality, entropy)


def roi_extractors(model: nn.Module) -> list[nn.Module]:
    """No modules: a latent belongs to an image."""
    return []
