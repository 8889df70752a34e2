"""``tools/visualize_attention.py``: pictures and a page of what a model attends to."""

import argparse
from pathlib import Path
from typing import Any

from aib_mm.cli.options import add_cfg_options, integer, program


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
    add = parser.add_argument
    config = "config file, 'mmpretrain::FOLDER/FILE.py', or the name of a model that "
    add('config', help=config + 'comes with the package, which needs no checkpoint')
    add('checkpoint', nargs='?', help='checkpoint file or address')
    files = 'image files or folders'
    add('images', nargs='*', type=Path, metavar='IMAGE', help=files)
    add(
        '--split',
        choices=('train', 'val', 'test'),
        help="images of the config's data set instead",
    )
    add('--out', required=True, type=Path, help='folder to write')
    limit = 'N images only, spread evenly'
    add('--limit', type=integer(1), metavar='N', help=limit)
    add('--batch', type=integer(1), default=8, help='images a pass (8)')
    add(
        '--source',
        default='attention',
        help='what the maps are: attention; bits, what each position lets through; '
        'features:MODULE, the mean over the channels of what the module of this name '
        'returns; gate:MODULE, a map of one channel; gradcam or gradcam:MODULE, '
        'Grad-CAM of the prediction, at the last layer with a map of at least 7×7 '
        'unless named (attention)',
    )
    add('--level', type=integer(0), help='of several maps (mean of all)')
    _add_page_options(parser)
    add('--device', default='cpu', help='cpu or cuda (cpu)')
    add('--seed', type=int, default=0, help='of the samples (0)')
    add_cfg_options(parser, 'override settings of the config, as in test.py')
    return parser


def _add_page_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        '--range',
        nargs=2,
        type=float,
        metavar=('LOW', 'HIGH'),
        help='ends of the colour scale of mean and samples (least and greatest value: '
        'of each image in the pictures, of all on the page)',
    )
    add('--score', type=float, default=0.3, help='of boxes that count as found (0.3)')
    add(
        '--right-from',
        type=float,
        default=0.5,
        metavar='Q',
        help='quality from which a prediction counts as right: F1 of the boxes, mean '
        'IoU of the image; a class is 0 or 1 (0.5)',
    )
    add('--page-images', type=integer(0), default=2000, help='on the page (2000)')
    sheet = 'also write sheet.png: the first N images with colour bars'
    add('--sheet', type=integer(1), metavar='N', help=sheet)


main = program(make_parser, 'aib_mm.experiments.look:look')
