"""Narrow VGG16-aib whose map pays for what it lets through, over 16 epochs."""

_base_ = [
    '_base_/models/vgg16-narrow_aib_priced.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_priced.py',
    '_base_/schedules/one_cycle_16e.py',
    '_base_/cpu_attention_runtime.py',
]
