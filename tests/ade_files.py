"""A small ADE20K folder in the set's true layout: ``data/ade/ADEChallengeData2016``.

``write_ade(root)`` makes ``images/{training,validation}/ADE_….jpg`` and
``annotations/{training,validation}/ADE_….png`` below it. In the masks 0 is unlabelled
and 1 to 150 are the classes.
"""

from pathlib import Path

import numpy as np
from PIL import Image

NUM_CLASSES = 150
WIDTH, HEIGHT = 96, 80


def write_ade(root: Path, training: int = 4, validation: int = 2) -> Path:
    """Write the folder below ``root`` with so many images a split."""
    folder = root / 'data' / 'ade' / 'ADEChallengeData2016'
    splits = dict(training=('train', training), validation=('val', validation))
    for seed, (split, (short, count)) in enumerate(splits.items()):
        rng = np.random.default_rng(seed)
        images, masks = (folder / part / split for part in ('images', 'annotations'))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for number in range(1, count + 1):
            name = f'ADE_{short}_{number:08d}'
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f'{name}.jpg')
            blocks = rng.integers(0, NUM_CLASSES + 1, (HEIGHT // 16, WIDTH // 16))
            mask = np.kron(blocks, np.ones((16, 16))).astype(np.uint8)
            mask[0] = 0
            Image.fromarray(mask).save(masks / f'{name}.png')
    return folder


def small_images(size: int = 64) -> list[str]:
    """Options that keep a shipped ADE20K config's model and shrink what it sees."""
    loaders = ('train', 'val', 'test')
    side = f'({size},{size})'
    return [
        f'model.data_preprocessor.size={side}',
        f'train_dataloader.dataset.pipeline.2.scale=({4 * size},{size})',
        f'train_dataloader.dataset.pipeline.3.crop_size={side}',
        f'val_dataloader.dataset.pipeline.1.scale=({4 * size},{size})',
        f'test_dataloader.dataset.pipeline.1.scale=({4 * size},{size})',
        *(f'{name}_dataloader.num_workers=0' for name in loaders),
        *(f'{name}_dataloader.persistent_workers=False' for name in loaders),
        # Nothing is downloaded.
        'model.pretrained=None',
        'model.backbone.init_cfg=None',
    ]


def small_tokens(size: int = 64) -> list[str]:
    """More options, for the BEiT configs: it takes images of one size."""
    side = f'({size},{size})'
    stride = f'({size * 2 // 3},{size * 2 // 3})'
    return [
        *small_images(size),
        f'model.backbone.img_size={side}',
        f'model.test_cfg.crop_size={side}',
        f'model.test_cfg.stride={stride}',
    ]
