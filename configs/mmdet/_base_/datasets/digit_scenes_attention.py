"""DigitScenes, and a measure of how much of the attention lies inside the boxes."""

_base_ = 'digit_scenes_128.py'

val_evaluator = [
    *_base_.val_evaluator,
    dict(type='AttentionLocalization', region='boxes'),
]
test_evaluator = val_evaluator

custom_hooks = [dict(type='AIBMonitorHook'), dict(type='AttentionFieldsHook')]
