"""Looking at attention: recording it, measuring where it lies, and drawing it."""

from aib_mm.entropy import mutual_information, predictive_entropy
from aib_mm.interpret.draw.pictures import colorize, draw_boxes, overlay
from aib_mm.interpret.draw.visualization import AttentionVisualizationHook
from aib_mm.interpret.measure.consistency import (
    consistency_area,
    consistency_curve,
    consistency_score,
    map_similarity,
)
from aib_mm.interpret.measure.faithfulness import (
    curve_area,
    deletion_curve,
    insertion_curve,
)
from aib_mm.interpret.measure.localization import (
    attention_energy,
    attention_iou,
    dilate,
    pointing_game,
)
from aib_mm.interpret.measure.metrics import (
    AttentionLocalization,
    LatentInformation,
    SamplesDrawn,
)
from aib_mm.interpret.measure.uncertainty import PredictionUncertainty
from aib_mm.interpret.record.fields import AttentionFieldsHook
from aib_mm.interpret.record.geometry import boxes_mask, map_on_image, resize_map
from aib_mm.interpret.record.information import information_of_images, record_latents
from aib_mm.interpret.record.levels import combine_bits, combine_levels
from aib_mm.interpret.record.recording import record_attention
from aib_mm.interpret.record.windows import slide_windows

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
    'combine_bits',
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
