"""Evaluators of DigitScenes: also how much of the attention lies on the digits.

The attention is in the data samples with ``_base_/attention_runtime.py``.
"""

val_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='AttentionLocalization', region=dict(type='classes', background=[0])),
]
test_evaluator = val_evaluator
