"""VGG-DVIB on CUB: VGG-aib without the attention; a row of the paper's Table 5."""

_base_ = [
    '_base_/models/vgg16-224_aib.py',
    '_base_/datasets/cub.py',
    '_base_/schedules/cub_200e.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(neck=None)

# Written by python -m aib_mm.classification.imagenet_weights.
load_from = 'pretrain/vgg16_aib_in1k.pth'
