"""Narrow WRN-ABN on DigitScenes; trains in minutes on two cores."""

_base_ = [
    '_base_/models/wrn16-narrow.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_6e.py',
    '_base_/cpu_attention_runtime.py',
]

block3 = dict(
    type='WideResNetBlocks', blocks=(3,), depth=16, widen_factor=1, dropout=0.0
)

model = dict(
    backbone=dict(blocks=(1, 2)),
    neck=None,  # the head pools
    head=dict(
        _delete_=True,
        type='ABNHead',
        num_classes=10,
        # Stride 1: the map is as large as the features, 16×16.
        branch=dict(block3, first_stride=1),
        body=block3,
    ),
)
