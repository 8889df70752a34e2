"""Narrow VGG-att3 on DigitScenes; trains in minutes on two cores."""

_base_ = [
    '_base_/models/vgg16-narrow.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_6e.py',
    '_base_/cpu_attention_runtime.py',
]

model = dict(
    backbone=dict(blocks=(1, 2, 3, 4, 5), out_blocks=(3, 4, 5), pointwise=False),
    neck=dict(_delete_=True, type='LocalAttention', in_channels=(32, 64, 64)),
    head=dict(in_channels=32 + 64 + 64),
)
