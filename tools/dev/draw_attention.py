#!/usr/bin/env python
"""Draw images with what a model predicts and attends to, one image a row.

``draw_attention.py CONFIG CHECKPOINT IMAGE... --out FILE``: for any config of
mmpretrain, mmdet or mmseg whose model holds an ``AIBAttention``. A colour means
the same value in all rows.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, VISUALIZERS, init_default_scope
from mmengine.runner import load_checkpoint
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from aib_mm.attention import attention_modules
from aib_mm.checkpoint import check_checkpoint
from aib_mm.cli.common import guarded, load_config
from aib_mm.cli.toolkits import UsageError, toolkit_of
from aib_mm.interpret import combine_levels, map_on_image, overlay, record_attention

MEAN_COLORS, STD_COLORS = 'viridis', 'magma'
ROW_INCHES = 2.6

Pixels = NDArray[np.uint8]


class Row(NamedTuple):
    """One image ``(H, W, 3)`` with its prediction drawn, and maps ``(H, W)`` of it.

    ``about_sample`` says what ``sample`` is.
    """

    image: Pixels
    prediction: Pixels
    mean: NDArray[np.floating]
    sample: NDArray[np.floating]
    std: NDArray[np.floating]
    about_sample: str


class Loaded(NamedTuple):
    """A model ready for images, and its host's visualizer."""

    scope: str
    model: nn.Module
    pipeline: Compose
    visualizer: Any


def load(cfg: Config, checkpoint: str, device: str) -> Loaded:
    """The model of a config, its test pipeline without annotations, its visualizer."""
    toolkit_of(cfg)
    check_checkpoint(checkpoint)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    loaded = load_checkpoint(model, checkpoint, map_location='cpu')
    dataset = cfg.test_dataloader.dataset
    meta = loaded.get('meta', {}).get('dataset_meta') or dataset.get('metainfo', {})
    drawing = dict(cfg.visualizer, name='draw_attention', vis_backends=None)
    visualizer = VISUALIZERS.build(drawing)
    visualizer.dataset_meta = dict(meta)
    steps = [step for step in dataset.pipeline if not step.type.endswith('Annotations')]
    try:
        attention_modules(model)
    except ValueError as error:
        raise UsageError(f'{cfg.filename}: {error}') from error
    model.to(device).eval()
    return Loaded(cfg.default_scope, model, Compose(steps), visualizer)


def look(loaded: Loaded, path: Path, level: int | None, score: float) -> Row:
    """Predict one image, and bring the attention to its pixels."""
    data = pseudo_collate([loaded.pipeline(dict(img_path=str(path), img_id=0))])
    with record_attention(loaded.model) as record, torch.no_grad():
        (prediction,) = loaded.model.test_step(data)
    if any(len(passes) != 1 for passes in record.values()):
        raise UsageError(
            'the model goes through its attention several times for one image (slide '
            'inference?), so that no map is that of its prediction'
        )
    levels = [maps for (attention,) in record.values() for maps in attention]
    prediction = prediction.cpu()
    try:
        mean, std = combine_levels(levels, 'mean' if level is None else level)
        # Not the mean of all levels: the mean of anchors is no anchor.
        finest = max(levels, key=lambda maps: maps.mean.numel())
        one = finest if level is None else levels[level]
        placed = [
            map_on_image(maps[0].cpu(), prediction.metainfo, smooth=smooth).numpy()
            for maps, smooth in ((mean, True), (one.samples[0], False), (std, True))
        ]
    except ValueError as error:  # no such level, or a pipeline that crops
        raise UsageError(f'{path}: {error}') from error
    with Image.open(path) as opened:
        image = np.asarray(opened.convert('RGB'))
    drawn = draw_prediction(loaded, image, prediction, score)
    about = 'one sample' if one.indices is None else 'one sample, quantised'
    if level is None and len(levels) > 1:
        about += ', finest level'
    return Row(image, drawn, *placed, about)


def draw_prediction(
    loaded: Loaded, image: Pixels, prediction: Any, score: float
) -> Pixels:
    """The prediction as the host's visualizer draws it."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / 'drawn.png')
        if loaded.scope == 'mmpretrain':
            loaded.visualizer.visualize_cls(
                image, prediction, draw_gt=False, resize=256, out_file=file
            )
        else:
            options = (
                dict(pred_score_thr=score)
                if loaded.scope == 'mmdet'
                else dict(with_labels=False)
            )
            loaded.visualizer.add_datasample(
                'image', image, prediction, draw_gt=False, out_file=file, **options
            )
        return np.asarray(Image.open(file).convert('RGB'))


def draw_sheet(rows: Sequence[Row], file: Path, mean_range: tuple | None) -> None:
    """One row an image; a colour bar under each kind of map."""
    mean_range = mean_range or (
        min(float(min(row.mean.min(), row.sample.min())) for row in rows),
        max(float(max(row.mean.max(), row.sample.max())) for row in rows),
    )
    std_range = (0.0, max(float(row.std.max()) for row in rows))
    columns = (
        ('mean attention', 'mean', mean_range, MEAN_COLORS),
        (rows[0].about_sample, 'sample', mean_range, MEAN_COLORS),
        ('std of the attention', 'std', std_range, STD_COLORS),
    )
    height = ROW_INCHES * len(rows) + 0.6
    figure, axes = plt.subplots(
        len(rows),
        1 + len(columns),
        figsize=(ROW_INCHES * (1 + len(columns)), height),
        dpi=100,
        layout='constrained',
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].set_title('prediction', fontsize=10)
    for cell, row in zip(axes[:, 0], rows, strict=True):
        cell.imshow(row.prediction)
    for cells, (title, name, limits, colors) in zip(axes.T[1:], columns, strict=True):
        cells[0].set_title(title, fontsize=10)
        for cell, row in zip(cells, rows, strict=True):
            values = getattr(row, name)
            drawn = overlay(row.image, values, value_range=limits, colors=colors)
            cell.imshow(drawn, interpolation='nearest')
        scale = ScalarMappable(Normalize(*limits), colors)
        figure.colorbar(scale, ax=list(cells), location='bottom', shrink=0.8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    plt.close(figure)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='draw_attention.py', description='Draw what a model attends to'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('images', nargs='+', type=Path, help='image files')
    parser.add_argument('--out', required=True, type=Path, help='picture to write')
    parser.add_argument('--level', type=int, help='of the attention (mean of all)')
    parser.add_argument(
        '--range',
        nargs=2,
        type=float,
        metavar=('LOW', 'HIGH'),
        help='ends of the colour scale of mean and sample (least and greatest drawn)',
    )
    parser.add_argument('--score', type=float, default=0.3, help='of boxes drawn (0.3)')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--seed', type=int, default=0, help='of the samples (0)')
    return parser


def draw(args: argparse.Namespace) -> None:
    """Draw as the options say."""
    for path in args.images:
        if not path.is_file():
            raise UsageError(f'image {path} does not exist')
    loaded = load(load_config(args.config, None), args.checkpoint, args.device)
    torch.manual_seed(args.seed)
    rows = [look(loaded, path, args.level, args.score) for path in args.images]
    draw_sheet(rows, args.out, args.range)


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), draw, argv)


if __name__ == '__main__':
    raise SystemExit(main())
