"""Full-size VGG16-aib on DigitScenes, for a GPU."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_15e.py',
    'mmpretrain::_base_/default_runtime.py',
]
