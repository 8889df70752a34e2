"""VGG-DVIB on SVHN: VGG-aib without the attention; a row of Table 5."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/svhn.py',
    '_base_/schedules/vgg_200e_aib.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(neck=None)
