"""Narrow VGG-PAN on DigitScenes; trains in minutes on two cores."""

_base_ = [
    '_base_/models/vgg16-narrow.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_6e.py',
    '_base_/cpu_attention_runtime.py',
]

model = dict(
    backbone=dict(blocks=(1, 2, 3), out_blocks=(3,), pointwise=False),
    neck=dict(
        _delete_=True,
        type='ProgressiveAttention',
        in_channels=32,
        stages=[
            dict(type='VGGBlocks', blocks=(4,), width=1 / 8, out_blocks=(4,)),
            dict(type='VGGBlocks', blocks=(5,), width=1 / 8, out_blocks=(5,)),
        ],
        hidden_channels=8,
    ),
)
