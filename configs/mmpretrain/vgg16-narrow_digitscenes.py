"""Narrow VGG16 on DigitScenes; trains in minutes on two cores."""

_base_ = [
    '_base_/models/vgg16-narrow.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes.py',
    '_base_/schedules/one_cycle_6e.py',
    '_base_/cpu_runtime.py',
]
