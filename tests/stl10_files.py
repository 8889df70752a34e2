"""Small STL-10 folders in the set's true file format.

``stl10_binary`` holds bytes without any header: labels 1 to 10; images as three planes,
each of them column by column. ``unchecked_sets`` holds the dataset without the
published MD5 sums, which small files cannot have.
"""

from pathlib import Path

import numpy as np


def images_of(count: int, seed: int) -> np.ndarray:
    """``(N, 96, 96, 3)`` uint8: blocks of one colour under noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(40, 216, (count, 12, 12, 3))
    large = blocks.repeat(8, axis=1).repeat(8, axis=2)
    return (large + rng.integers(-40, 40, large.shape)).astype(np.uint8)


def write_stl10(root: str | Path, train: int = 20, test: int = 10) -> Path:
    """Write ``root/stl10_binary``; the images are ``images_of(count, 0)`` and 1."""
    folder = Path(root) / 'stl10_binary'
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate(dict(train=train, test=test).items()):
        content = bytearray()
        for image in images_of(count, seed):
            for plane in range(3):
                for column in range(96):
                    content += image[:, column, plane].tobytes()
        (folder / f'{split}_X.bin').write_bytes(content)
        labels = bytes(1 + index % 10 for index in range(count))
        (folder / f'{split}_y.bin').write_bytes(labels)
    return folder
