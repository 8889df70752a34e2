"""Looking at attention: recording it, and measuring where it lies."""

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
from aib_mm.interpret.recording import record_attention

__all__ = [
    'AttentionFieldsHook',
    'AttentionLocalization',
    'LatentInformation',
    'attention_energy',
    'boxes_mask',
    'combine_levels',
    'dilate',
    'map_on_image',
    'pointing_game',
    'record_attention',
    'resize_map',
]
