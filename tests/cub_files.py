"""Small CUB-200-2011 folders in the set's true file format.

Lists of ``NUMBER VALUE``, numbers and classes from 1; boxes are left, top, width and
height; ``train_test_split.txt`` says 1 for training.
"""

from pathlib import Path

import numpy as np
from PIL import Image

#: Of image number n: BOXES[(n - 1) % len(BOXES)]; within 60x50 pixels.
BOXES = ((10.0, 5.0, 30.0, 20.0), (0.0, 0.0, 60.0, 50.0), (7.5, 3.2, 20.1, 40.0))


def image_of(number: int) -> np.ndarray:
    """``(50, 60, 3)`` uint8, RGB: column, row and number of the image."""
    rows, columns = np.mgrid[0:50, 0:60]
    return np.stack([columns, rows, np.full_like(rows, number)], -1).astype(np.uint8)


def write_cub(root: str | Path, count: int = 6, lossless: bool = True) -> Path:
    """Write lists and images; image n is of class n, odd ones are for training.

    Args:
        lossless: PNG content in the ``.jpg`` files, so that pixels can be compared;
            readers go by the content.
    """
    root = Path(root)
    lists: dict[str, list[str]] = {}
    for number in range(1, count + 1):
        name = f'{number:03d}.Bird/Bird_{number:04d}.jpg'
        path = root / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(image_of(number))
        image.save(path, format='PNG' if lossless else 'JPEG')
        box = ' '.join(map(str, BOXES[(number - 1) % len(BOXES)]))
        for file, value in (
            ('images', name),
            ('image_class_labels', number),
            ('train_test_split', number % 2),
            ('bounding_boxes', box),
        ):
            lists.setdefault(file, []).append(f'{number} {value}\n')
    for file, lines in lists.items():
        (root / f'{file}.txt').write_text(''.join(lines))
    return root
