"""Narrow UperNet-BEiT-aib on DigitScenes; trains in minutes on two cores."""

_base_ = [
    '_base_/models/upernet_beit-narrow_aib.py',
    '_base_/datasets/digit_scenes_64.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_24e.py',
    '_base_/attention_runtime.py',
]
