"""Vanilla VGG16 on CIFAR-10: the first row of the paper's Tables 2 and 5."""

_base_ = [
    '_base_/models/vgg16.py',
    '_base_/datasets/cifar10.py',
    '_base_/schedules/vgg_200e.py',
    'mmpretrain::_base_/default_runtime.py',
]
