"""Vanilla VGG16 on SVHN: the first row of the paper's Table 5."""

_base_ = [
    '_base_/models/vgg16.py',
    '_base_/datasets/svhn.py',
    '_base_/schedules/vgg_200e.py',
    'mmpretrain::_base_/default_runtime.py',
]
