"""Full-size models with attention beside the vanilla ones, weights and images random.

``python benchmarks/models.py [GROUP ...] [--rounds 10] [--threads 1]``

Each group is one command of ``tools/benchmark.py``, which is printed first.
"""

import argparse
import shlex
from pathlib import Path

from aib_mm.cli import benchmark

CONFIGS = Path(__file__).parents[1] / 'configs'
CIFAR = '--size 32 32 --batch 32'
SMALL = '--size 256 256 --batch 1'
#: Random weights propose what they will; so both models have equally many boxes.
EQUAL_BOXES = (
    '--cfg-options model.train_cfg.rpn_proposal.max_per_img=600 '
    'model.test_cfg.rpn.max_per_img=100'
)
#: BEiT's position embeddings are bound to the size of the image.
SMALL_IMAGES = (
    '--cfg-options model.data_preprocessor.size=(256,256) '
    'model.backbone.img_size=(256,256) model.test_cfg.mode=whole'
)
GROUPS = {
    'vgg': 'mmpretrain/vgg16_cifar10.py mmpretrain/vgg16_aib_cifar10.py '
    f'mmpretrain/vgg16_aib_qt_cifar10.py {CIFAR} --samples 0 4',
    'wrn': 'mmpretrain/wrn28-10_cifar10.py mmpretrain/wrn28-10_aib_cifar10.py '
    '--size 32 32 --batch 2 --samples 0 4',
    'detection': 'mmdet/faster_rcnn_r50_digitscenes.py '
    f'mmdet/faster_rcnn_r50_aib_qt_digitscenes.py {SMALL} --samples 0 4 {EQUAL_BOXES}',
    'segmentation': 'mmseg/upernet_beit.py mmseg/upernet_beit_aib_qt.py '
    f'{SMALL} --samples 0 2 {SMALL_IMAGES}',
    # The samples of a test one at a time: the memory of four is that of one.
    'chunks': f'mmpretrain/vgg16_aib_qt_cifar10.py {CIFAR} --samples 1 4 --no-train '
    '--cfg-options model.neck.sample_chunk=1',
}


def main() -> None:
    """Print a table for each group."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('groups', nargs='*', metavar='GROUP', help=', '.join(GROUPS))
    parser.add_argument('--rounds', default='10')
    parser.add_argument('--threads', default='1')
    args = parser.parse_args()
    for name in args.groups or GROUPS:
        command = ['--rounds', args.rounds, '--threads', args.threads]
        for word in GROUPS[name].split():
            command.append(str(CONFIGS / word) if word.endswith('.py') else word)
        print(f'\n{name}: tools/benchmark.py {shlex.join(command)}', flush=True)
        benchmark.main(command)


if __name__ == '__main__':
    main()
