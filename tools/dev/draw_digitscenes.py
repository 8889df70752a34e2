#!/usr/bin/env python
"""Draw docs/images/digitscenes.png: ``draw_digitscenes.py [SET] [FILE]``."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from aib_mm.digitscenes import load_meta

SCENE = '00008'


def main(root: Path, file: Path) -> None:
    """Samples of both parts, with masks and boxes."""
    figure = plt.figure(figsize=(10, 6.2), dpi=100, layout='constrained')
    upper, lower = figure.subfigures(2, 1, height_ratios=[0.72, 1])
    axes = upper.subplots(2, 1)
    for row, split in zip(axes, ('train', 'test'), strict=True):
        row.imshow(_sheet(root / 'classification', split))
        row.set_title(f'classification/{split}: images, masks below', fontsize=10)
        row.set_axis_off()
    image, mask = lower.subplots(1, 2)
    _draw_boxes(image, root / 'scenes')
    _draw_segmentation(mask, root / 'scenes')
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def _sheet(folder: Path, split: str) -> np.ndarray:
    """Two images of each class in a row, their masks in the row below."""
    names = [f'{digit}/{digit + 10 * k:05d}.png' for digit in range(10) for k in (0, 1)]
    images = [_read(folder / split / name) for name in names]
    masks = [_read(folder / 'masks' / split / name) for name in names]
    masks = [np.repeat(mask[..., None], 3, -1) for mask in masks]
    rows = (
        np.hstack(
            [np.pad(i, ((1, 1), (1, 1), (0, 0)), constant_values=255) for i in row]
        )
        for row in (images, masks)
    )
    return np.vstack(list(rows))


def _draw_boxes(axes: Axes, folder: Path) -> None:
    coco = json.loads((folder / 'annotations/instances_val.json').read_text())
    names = {row['id']: row['name'] for row in coco['categories']}
    axes.imshow(_read(folder / f'images/val/{SCENE}.png'))
    for row in coco['annotations']:
        if row['image_id'] == int(SCENE):
            x, y, width, height = row['bbox']
            edge = Rectangle((x, y), width, height, fill=False, color='lime', lw=1.5)
            axes.add_patch(edge)
            axes.text(x, y - 3, names[row['category_id']], color='lime', fontsize=11)
    axes.set_title('scenes: COCO boxes', fontsize=10)
    axes.set_axis_off()


def _draw_segmentation(axes: Axes, folder: Path) -> None:
    palette = load_meta(folder)['palette']
    colours = np.array([(255, 255, 255), *palette], np.uint8)
    axes.imshow(colours[_read(folder / f'masks/val/{SCENE}.png')])
    axes.set_title('scenes: segmentation (white: unlabelled)', fontsize=10)
    axes.set_axis_off()


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


if __name__ == '__main__':
    given = [Path(argument) for argument in sys.argv[1:3]]
    defaults = [Path('data/digitscenes'), Path('docs/images/digitscenes.png')]
    main(*(given + defaults[len(given) :]))
