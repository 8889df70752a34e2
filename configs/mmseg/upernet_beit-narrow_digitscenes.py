"""Narrow UperNet-BEiT without attention on DigitScenes, for comparison."""

_base_ = [
    '_base_/models/upernet_beit-narrow.py',
    '_base_/datasets/digit_scenes_64.py',
    '_base_/evaluators/digit_scenes.py',
    '_base_/schedules/one_cycle_24e.py',
    '_base_/default_runtime.py',
]
