"""What a DigitScenes set is made of: its version and every design parameter."""

from dataclasses import asdict, dataclass
from typing import Any

NAME = 'DigitScenes'

#: Changes whenever the same parameters give other pixels, labels or files.
VERSION = '1.0'

#: Names of the ten classes, in the order of their indices.
CLASSES = tuple(str(digit) for digit in range(10))

#: Part -> its splits.
PARTS = {
    'classification': ('train', 'test'),
    'scenes': ('train', 'val'),
    'shifted': ('photographs', 'thick', 'thin'),
}
#: What is made unless parts are named.
DEFAULT_PARTS = ('classification', 'scenes')

_PAIRS = (
    'digit_size',
    'distractors',
    'distractor_size',
    'photo_zoom',
    'scene_digits',
    'scene_digit_size',
    'scene_distractors',
    'scene_distractor_size',
)
#: Lower bounds other than 1; a smaller digit would not be legible.
_LEAST = {
    'digit_size': 12,
    'scene_digit_size': 24,
    'distractors': 0,
    'scene_distractors': 0,
}
_SHARED = ('rotation', 'shear', 'min_contrast', 'mask_threshold', 'photo_zoom')
_OF_PART = {
    'classification': (
        'size',
        'train',
        'test',
        'digit_size',
        'distractors',
        'distractor_size',
    ),
    'shifted': ('size', 'shifted', 'digit_size', 'distractors', 'distractor_size'),
    'scenes': (
        'scene_size',
        'scenes_train',
        'scenes_val',
        'scene_digits',
        'scene_digit_size',
        'scene_distractors',
        'scene_distractor_size',
        'max_overlap',
        'edge_threshold',
    ),
}


@dataclass(frozen=True)
class DigitScenesSpec:
    """The seed and the design parameters of a set; pairs are inclusive ranges.

    Sizes of digits are the side of MNIST's 28-pixel frame as drawn, of which the
    handwriting fills about two thirds. They and the distractors' sizes are pixels of an
    image of ``size`` 32 or of ``scene_size`` 256, and scale with it.

    Args:
        seed: seed of all randomness; the partition of digits and photographs is fixed.
        size: side of a classification image, in pixels.
        train: number of classification images for training.
        test: number of classification images for testing.
        digit_size: range of the digit's frame at ``size=32``.
        distractors: range of the number of strokes cut from other digits.
        distractor_size: range of a stroke's window at ``size=32``.
        scene_size: side of a scene, in pixels.
        scenes_train: number of scenes for training.
        scenes_val: number of scenes for validation.
        scene_digits: range of the number of digits in a scene.
        scene_digit_size: range of a digit's frame at ``scene_size=256``.
        scene_distractors: range of the number of strokes in a scene.
        scene_distractor_size: range of a stroke's window at ``scene_size=256``.
        max_overlap: largest share of the smaller of two digits' boxes that the other
            covers.
        rotation: largest turn of a digit, in degrees, either way.
        shear: largest horizontal shear of a digit, either way.
        min_contrast: least distance between a digit's colour and the mean colour behind
            it, in RGB of 0 to 255 (black to white: 442).
        mask_threshold: ink from which a pixel belongs to the digit, in [0, 1].
        edge_threshold: ink from which a pixel that does not belong to the digit counts
            as its blurred edge and is left unlabelled in segmentation masks.
        photo_zoom: range of the side of the photograph's crop over the image's side.
        shifted: number of images of each shifted split.
    """

    seed: int = 0
    size: int = 32
    train: int = 8000
    test: int = 2000
    digit_size: tuple[int, int] = (18, 24)
    distractors: tuple[int, int] = (1, 3)
    distractor_size: tuple[int, int] = (4, 6)
    scene_size: int = 256
    scenes_train: int = 1000
    scenes_val: int = 200
    scene_digits: tuple[int, int] = (2, 6)
    scene_digit_size: tuple[int, int] = (40, 112)
    scene_distractors: tuple[int, int] = (2, 6)
    scene_distractor_size: tuple[int, int] = (12, 24)
    max_overlap: float = 0.1
    rotation: float = 10.0
    shear: float = 0.1
    min_contrast: float = 60.0
    mask_threshold: float = 0.5
    edge_threshold: float = 0.2
    photo_zoom: tuple[float, float] = (1.0, 2.0)
    shifted: int = 2000

    def __post_init__(self) -> None:
        for name in ('train', 'test', 'shifted', 'scenes_train', 'scenes_val'):
            self._require(name, getattr(self, name) >= 1, '>= 1')
        self._require('seed', self.seed >= 0, '>= 0')
        self._require('size', self.size >= 32, '>= 32')
        self._require('scene_size', self.scene_size >= 128, '>= 128')
        for name in _PAIRS:
            low, high = getattr(self, name)
            least = _LEAST.get(name, 1)
            self._require(name, least <= low <= high, f'{least} <= low <= high')
        for name, most in (('digit_size', 32), ('scene_digit_size', 256)):
            self._require(name, getattr(self, name)[1] <= most, f'at most {most}')
        for name in ('mask_threshold', 'edge_threshold'):
            self._require(name, 0 < getattr(self, name) <= 1, 'in (0, 1]')
        self._require('max_overlap', 0 <= self.max_overlap <= 1, 'in [0, 1]')
        self._require('min_contrast', self.min_contrast >= 0, '>= 0')

    def count(self, part: str, split: str) -> int:
        """Number of images of a split of a part."""
        field = {
            'classification': split,
            'scenes': f'scenes_{split}',
            'shifted': 'shifted',
        }[part]
        return getattr(self, field)

    def parameters(self, part: str) -> dict[str, Any]:
        """What the files of a part depend on besides the seed; JSON types."""
        values = asdict(self)
        return {
            name: list(values[name]) if name in _PAIRS else values[name]
            for name in _OF_PART[part] + _SHARED
        }

    def identity(self, part: str) -> dict[str, Any]:
        """What tells one set from another; the head of its meta file."""
        return dict(
            name=NAME,
            version=VERSION,
            part=part,
            seed=self.seed,
            parameters=self.parameters(part),
        )

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f'{name} must be {rule}, got {getattr(self, name)!r}')
