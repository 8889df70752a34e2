"""Narrow VGG16-aib on DigitScenes; trains in minutes on two cores."""

_base_ = [
    '_base_/models/vgg16-narrow_aib.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_6e.py',
    '_base_/cpu_attention_runtime.py',
]
