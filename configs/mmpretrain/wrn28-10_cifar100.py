"""Vanilla WRN-28-10 on CIFAR-100: a row of the paper's Tables 2 and 5."""

_base_ = [
    '_base_/models/wrn28-10.py',
    '_base_/datasets/cifar100.py',
    '_base_/schedules/wrn_200e.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=100))
