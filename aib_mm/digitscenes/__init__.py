"""DigitScenes: real handwriting on real photographs, made from installed packages."""

from aib_mm.digitscenes.generate import generate
from aib_mm.digitscenes.sources import SourceError
from aib_mm.digitscenes.spec import (
    CLASSES,
    DEFAULT_PARTS,
    NAME,
    PARTS,
    VERSION,
    DigitScenesSpec,
)
from aib_mm.digitscenes.state import (
    SetError,
    how_to_make,
    is_complete,
    load_meta,
    verify,
)

__all__ = [
    'CLASSES',
    'DEFAULT_PARTS',
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
