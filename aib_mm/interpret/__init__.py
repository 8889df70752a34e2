"""Looking at attention: recording it, measuring where it lies, and drawing it."""

from aib_mm.interpret.consistency import (
    consistency_area,
    consistency_curve,
    consistency_score,
    map_similarity,
)
from aib_mm.interpret.faithfulness import (
    curve_area,
    deletion_curve,
    insertion_curve,
)
from aib_mm.interpret.fields import AttentionFieldsHook, combine_levels
from aib_mm.interpret.information import information_of_images, record_latents
from aib_mm.interpret.localization import (
    attention_energy,
    attention_iou,
    boxes_mask,
    dilate,
    map_on_image,
    pointing_game,
    resize_map,
)
from aib_mm.interpret.metrics import AttentionLocalization, LatentInformation
from aib_mm.interpret.overlay import colorize, draw_boxes, overlay
from aib_mm.interpret.recording import record_attention
from aib_mm.interpret.samples_drawn import SamplesDrawn
from aib_mm.interpret.uncertainty import (
    PredictionUncertainty,
    mutual_information,
    predictive_entropy,
)
from aib_mm.interpret.visualization import AttentionVisualizationHook
from aib_mm.interpret.windows import slide_windows

__all__ = [
    'AttentionFieldsHook',
    'AttentionLocalization',
    'AttentionVisualizationHook',
    'LatentInformation',
    'PredictionUncertainty',
    'SamplesDrawn',
    'attention_energy',
    'attention_iou',
    'boxes_mask',
    'colorize',
    'combine_levels',
    'consistency_area',
    'consistency_curve',
    'consistency_score',
    'curve_area',
    'deletion_curve',
    'dilate',
    'draw_boxes',
    'information_of_images',
    'insertion_curve',
    'map_on_image',
    'map_similarity',
    'mutual_information',
    'overlay',
    'pointing_game',
    'predictive_entropy',
    'record_attention',
    'record_latents',
    'resize_map',
    'slide_windows',
]
