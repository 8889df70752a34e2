"""Vanilla WRN-50-2 on CUB, from ImageNet weights: a row of the paper's Table 5."""

_base_ = [
    '_base_/models/wrn50-2.py',
    '_base_/datasets/cub.py',
    '_base_/schedules/cub_200e.py',
    'mmpretrain::_base_/default_runtime.py',
]

load_from = 'https://download.openmmlab.com/mmclassification/v0/wrn/wide-resnet50_3rdparty_8xb32_in1k_20220304-66678344.pth'
