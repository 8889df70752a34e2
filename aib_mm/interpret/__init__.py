"""Looking at attention: recording it, measuring where it lies, and drawing it."""

from aib_mm.interpret.fields import AttentionFieldsHook, combine_levels
from aib_mm.interpret.localization import (
    attention_energy,
    boxes_mask,
    dilate,
    map_on_image,
    pointing_game,
    resize_map,
)
from aib_mm.interpret.metrics import AttentionLocalization, LatentInformation
from aib_mm.interpret.overlay import colorize, draw_boxes, overlay
from aib_mm.interpret.recording import record_attention

__all__ = [
    'AttentionFieldsHook',
    'AttentionLocalization',
    'LatentInformation',
    'attention_energy',
    'boxes_mask',
    'colorize',
    'combine_levels',
    'dilate',
    'draw_boxes',
    'map_on_image',
    'overlay',
    'pointing_game',
    'record_attention',
    'resize_map',
]
