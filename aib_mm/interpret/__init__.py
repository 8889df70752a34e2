"""Looking at attention: recording it, and measuring where it lies."""

from aib_mm.interpret.localization import (
    attention_energy,
    dilate,
    pointing_game,
    resize_map,
)
from aib_mm.interpret.metrics import AttentionLocalization, LatentInformation
from aib_mm.interpret.recording import record_attention

__all__ = [
    'AttentionLocalization',
    'LatentInformation',
    'attention_energy',
    'dilate',
    'pointing_game',
    'record_attention',
    'resize_map',
]
