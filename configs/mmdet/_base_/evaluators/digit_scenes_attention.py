"""Evaluators of DigitScenes: also how much of the attention lies inside the boxes.

The attention is in the data samples with ``_base_/attention_runtime.py``.
"""

val_evaluator = [
    dict(
        type='CocoMetric',
        ann_file='data/digitscenes/scenes/annotations/instances_val.json',
        metric='bbox',
    ),
    dict(type='AttentionLocalization', region='boxes'),
]
test_evaluator = val_evaluator
