"""Small SVHN folders in the set's true file format.

The published files are MATLAB 5 files, compressed: ``X``, uint8 ``(32, 32, 3, N)``, and
``y``, uint8 ``(N, 1)``, in which 10 stands for the digit 0. ``unchecked_sets`` holds
the dataset without the published MD5 sums, which small files cannot have.
"""

from pathlib import Path

import numpy as np
from scipy.io import savemat

NAMES = {
    'train': 'train_32x32.mat',
    'extra': 'extra_32x32.mat',
    'test': 'test_32x32.mat',
}


def images_of(count: int, seed: int) -> np.ndarray:
    """``(N, 32, 32, 3)`` uint8, each pixel different."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8)


def labels_of(count: int) -> np.ndarray:
    """Digits 0 to 9 in turn."""
    return np.arange(count) % 10


def write_mat(path: Path, images: np.ndarray, digits: np.ndarray) -> None:
    """Images ``(N, 32, 32, 3)`` and digits to a file as published."""
    labels = np.where(digits == 0, 10, digits).astype(np.uint8)
    planes = np.moveaxis(images, 0, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, dict(X=planes, y=labels[:, None]), do_compression=True)


def write_svhn(
    root: str | Path, train: int = 20, extra: int = 10, test: int = 10
) -> Path:
    """Write the three files; images are ``images_of(count, 0)`` and so on."""
    root = Path(root)
    for seed, (split, count) in enumerate(
        dict(train=train, extra=extra, test=test).items()
    ):
        write_mat(root / NAMES[split], images_of(count, seed), labels_of(count))
    return root
