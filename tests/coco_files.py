"""A small COCO folder in the set's true layout: ``data/coco``, as mmdet's configs say.

``write_coco(root)`` makes ``root/data/coco/annotations/instances_{train,val}2017.json``
and the images they name. Category ids are COCO's own: 80 of 1 to 90, with gaps.
"""

import json
from pathlib import Path

import numpy as np
from mmdet.datasets import CocoDataset
from PIL import Image

# The ids that COCO does not use.
GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
CATEGORY_IDS = [i for i in range(1, 91) if i not in GAPS]
WIDTH, HEIGHT = 96, 80


def write_coco(root: Path, train: int = 4, val: int = 4) -> Path:
    """Write the folder ``root/data/coco`` with so many images a split."""
    folder = root / 'data' / 'coco'
    for seed, (split, count) in enumerate(dict(train=train, val=val).items()):
        _write_split(folder, f'{split}2017', count, np.random.default_rng(seed))
    return folder


def _write_split(
    folder: Path, split: str, count: int, rng: np.random.Generator
) -> None:
    (folder / split).mkdir(parents=True)
    (folder / 'annotations').mkdir(exist_ok=True)
    images, annotations = [], []
    for image_id in range(1, count + 1):
        name = f'{image_id:012d}.jpg'
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / split / name)
        images.append(dict(id=image_id, file_name=name, width=WIDTH, height=HEIGHT))
        for _ in range(rng.integers(1, 4)):
            annotations.append(_annotation(len(annotations) + 1, image_id, rng))
    names = CocoDataset.METAINFO['classes']
    content = dict(
        images=images,
        annotations=annotations,
        categories=[
            dict(id=i, name=name) for i, name in zip(CATEGORY_IDS, names, strict=True)
        ],
    )
    path = folder / 'annotations' / f'instances_{split}.json'
    path.write_text(json.dumps(content))


def _annotation(number: int, image_id: int, rng: np.random.Generator) -> dict:
    x, y = rng.integers(0, WIDTH - 48), rng.integers(0, HEIGHT - 40)
    w, h = rng.integers(20, 48), rng.integers(20, 40)
    corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    return dict(
        id=number,
        image_id=image_id,
        category_id=int(rng.choice(CATEGORY_IDS)),
        bbox=[int(v) for v in (x, y, w, h)],
        area=int(w * h),
        iscrowd=0,
        segmentation=[[float(v) for corner in corners for v in corner]],
    )


def small_images() -> list[str]:
    """Options that keep a shipped COCO config's model and shrink what it sees."""
    scale = '(128,96)'
    return [
        f'train_dataloader.dataset.pipeline.2.scale={scale}',
        f'val_dataloader.dataset.pipeline.1.scale={scale}',
        f'test_dataloader.dataset.pipeline.1.scale={scale}',
        *(f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')),
        *(
            f'{name}_dataloader.persistent_workers=False'
            for name in ('train', 'val', 'test')
        ),
        # Nothing is downloaded.
        'model.backbone.init_cfg=None',
    ]
