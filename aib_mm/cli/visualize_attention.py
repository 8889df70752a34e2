"""``tools/visualize_attention.py``: pictures and a page of what a model attends to."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aib_mm.cli.options import add_cfg_options, guarded, integer


class _Parser(argparse.ArgumentParser):
    """Takes images after options too."""

    def parse_args(  # type: ignore[override]
        self, *args: Any, **kwargs: Any
    ) -> argparse.Namespace:
        return self.parse_intermixed_args(*args, **kwargs)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = _Parser(
        prog='visualize_attention.py',
        description='Predict images and show what the model looks at: pictures, arrays '
        'and a page. For any config of mmpretrain, mmdet or mmseg: the attention of '
        'its model or, with --source, its features or Grad-CAM.',
    )
    parser.add_argument('config', help="config file, or 'mmpretrain::FOLDER/FILE.py'")
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument(
        'images', nargs='*', type=Path, metavar='IMAGE', help='image files or folders'
    )
    parser.add_argument(
        '--split',
        choices=('train', 'val', 'test'),
        help="images of the config's data set instead",
    )
    parser.add_argument('--out', required=True, type=Path, help='folder to write')
    parser.add_argument(
        '--limit', type=integer(1), metavar='N', help='N images only, spread evenly'
    )
    parser.add_argument('--batch', type=integer(1), default=8, help='images a pass (8)')
    parser.add_argument(
        '--source',
        default='attention',
        help='what the maps are: attention; features:MODULE, the mean over the '
        'channels of what the module of this name returns; gate:MODULE, a map of one '
        'channel; gradcam or gradcam:MODULE, Grad-CAM of the prediction, at the last '
        'layer with a map of at least 7×7 unless named (attention)',
    )
    parser.add_argument(
        '--level', type=integer(0), help='of several maps (mean of all)'
    )
    _add_page_options(parser)
    parser.add_argument('--device', default='cpu', help='cpu or cuda (cpu)')
    parser.add_argument('--seed', type=int, default=0, help='of the samples (0)')
    add_cfg_options(parser, 'override settings of the config, as in test.py')
    return parser


def _add_page_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--range',
        nargs=2,
        type=float,
        metavar=('LOW', 'HIGH'),
        help='ends of the colour scale of mean and samples (least and greatest value: '
        'of each image in the pictures, of all on the page)',
    )
    parser.add_argument(
        '--score', type=float, default=0.3, help='of boxes that count as found (0.3)'
    )
    parser.add_argument(
        '--right-from',
        type=float,
        default=0.5,
        metavar='Q',
        help='quality from which a prediction counts as right: F1 of the boxes, mean '
        'IoU of the image; a class is 0 or 1 (0.5)',
    )
    parser.add_argument(
        '--page-images', type=integer(0), default=2000, help='on the page (2000)'
    )
    parser.add_argument(
        '--sheet',
        type=integer(1),
        metavar='N',
        help='also write sheet.png: the first N images with colour bars',
    )


def visualize(args: argparse.Namespace) -> int:
    """Look as the options say; 1 if some images could not be used."""
    from aib_mm.experiments.look import LookOptions, look

    return look(LookOptions(**vars(args)))


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), visualize, argv)
