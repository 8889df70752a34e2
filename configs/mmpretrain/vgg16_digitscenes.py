"""Full-size VGG16 on DigitScenes, for a GPU."""

_base_ = [
    '_base_/models/vgg16.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes.py',
    '_base_/schedules/one_cycle_15e.py',
    'mmpretrain::_base_/default_runtime.py',
]
