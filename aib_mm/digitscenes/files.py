"""Writing of samples to files, and the checksums of the files."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aib_mm.digitscenes.render import Classification, Scene
from aib_mm.digitscenes.spec import CLASSES, NAME, VERSION

#: Segmentation values: 0 is unlabelled (``reduce_zero_label=True`` ignores it),
#: 1 the background, 2 + d the digit d.
SEGMENTATION_CLASSES = ('background', *CLASSES)

#: One colour per segmentation class, for the hosts' drawing.
PALETTE = (
    (0, 0, 0),
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (210, 245, 60),
    (250, 190, 212),
)

#: Path below the part's folder -> SHA-256 of the file and of its decoded pixels.
Digests = dict[str, tuple[str, str]]


def write_classification(
    folder: Path, split: str, index: int, sample: Classification
) -> Digests:
    """``SPLIT/DIGIT/INDEX.png`` and the digit's mask below ``masks/``."""
    path = f'{split}/{CLASSES[sample.label]}/{index:05d}.png'
    return {
        path: _write_png(folder / path, sample.image),
        f'masks/{path}': _write_png(folder / 'masks' / path, sample.mask),
    }


def write_scene(folder: Path, split: str, index: int, scene: Scene) -> Digests:
    """``images/SPLIT/INDEX.png`` and the segmentation mask below ``masks/``."""
    name = f'{split}/{index:05d}.png'
    return {
        f'images/{name}': _write_png(folder / 'images' / name, scene.image),
        f'masks/{name}': _write_png(folder / 'masks' / name, segmentation(scene)),
    }


def segmentation(scene: Scene) -> np.ndarray:
    """The scene's mask in ADE20K's convention, ``(S, S)`` uint8."""
    values = np.ones(scene.edges.shape, np.uint8)
    values[scene.edges] = 0
    for label, mask in zip(scene.labels, scene.masks, strict=True):
        values[mask] = 2 + label
    return values


def instances(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """COCO annotations of the visible digits, still without their ``id``."""
    found = []
    for label, mask in zip(scene.labels, scene.masks, strict=True):
        rows, columns = np.nonzero(mask)
        left, top = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) - left + 1, int(rows.max()) - top + 1
        found.append(
            dict(
                image_id=image_id,
                category_id=label + 1,
                bbox=[left, top, width, height],
                area=len(rows),
                segmentation=run_lengths(mask),
                iscrowd=0,
            )
        )
    return found


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed run-length encoding of a boolean ``(H, W)`` mask.

    Lengths of alternating runs in column order, beginning with the pixels outside.
    """
    pixels = mask.ravel(order='F')
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate(([0], changes, [pixels.size]))).tolist()
    return dict(counts=[0, *counts] if pixels[0] else counts, size=list(mask.shape))


def write_coco(
    folder: Path, split: str, side: int, annotations: list[list[dict[str, Any]]]
) -> Digests:
    """``annotations/instances_SPLIT.json`` for scenes in the order of their index."""
    flat = [annotation for of_scene in annotations for annotation in of_scene]
    content = dict(
        info=dict(description=NAME, version=VERSION),
        images=[
            dict(id=index, file_name=f'{index:05d}.png', width=side, height=side)
            for index in range(len(annotations))
        ],
        annotations=[
            dict(id=number, **fields) for number, fields in enumerate(flat, start=1)
        ],
        categories=[
            dict(id=number, name=name, supercategory='digit')
            for number, name in enumerate(CLASSES, start=1)
        ],
    )
    path = f'annotations/instances_{split}.json'
    data = json.dumps(content, separators=(',', ':')).encode()
    (folder / path).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return {path: (digest, digest)}


def checksums(digests: Digests) -> tuple[str, str]:
    """SHA-256 of what ``sha256sum`` prints for the files, and for their pixels."""

    def checksum(kind: int) -> str:
        lines = (f'{digests[path][kind]}  {path}\n' for path in sorted(digests))
        return hashlib.sha256(''.join(lines).encode()).hexdigest()

    return checksum(0), checksum(1)


def _write_png(path: Path, pixels: np.ndarray) -> tuple[str, str]:
    buffer = io.BytesIO()
    # More effort takes three times as long and saves 5 % of a photograph.
    Image.fromarray(pixels).save(buffer, 'PNG', compress_level=1)
    path.write_bytes(buffer.getvalue())
    return (
        hashlib.sha256(buffer.getvalue()).hexdigest(),
        hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(),
    )
