"""Narrow VGG-DVIB on DigitScenes: the narrow VGG-aib without the attention."""

_base_ = [
    '_base_/models/vgg16-narrow_aib.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/schedules/one_cycle_6e.py',
    '_base_/cpu_runtime.py',
]

model = dict(neck=None)

test_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='LatentInformation')]
val_evaluator = test_evaluator
