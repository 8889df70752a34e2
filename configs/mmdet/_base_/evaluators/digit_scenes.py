"""Evaluators of DigitScenes."""

val_evaluator = [
    dict(
        type='CocoMetric',
        ann_file='data/digitscenes/scenes/annotations/instances_val.json',
        metric='bbox',
    )
]
test_evaluator = val_evaluator
