"""Vanilla WRN-28-10 on SVHN, for which the paper prints no figure."""

_base_ = [
    '_base_/models/wrn28-10.py',
    '_base_/datasets/svhn.py',
    '_base_/schedules/wrn_200e.py',
    'mmpretrain::_base_/default_runtime.py',
]
