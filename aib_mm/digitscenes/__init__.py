"""DigitScenes: real handwriting on real photographs, made from installed packages."""

from aib_mm.digitscenes.files import SetError, how_to_make, load_meta
from aib_mm.digitscenes.generate import generate, is_complete, verify
from aib_mm.digitscenes.sources import SourceError
from aib_mm.digitscenes.spec import CLASSES, NAME, PARTS, VERSION, DigitScenesSpec

__all__ = [
    'CLASSES',
    'NAME',
    'PARTS',
    'VERSION',
    'DigitScenesSpec',
    'SetError',
    'SourceError',
    'generate',
    'how_to_make',
    'is_complete',
    'load_meta',
    'verify',
]
