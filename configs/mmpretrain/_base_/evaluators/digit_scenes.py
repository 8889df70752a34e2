"""Evaluators of DigitScenes."""

test_evaluator = [dict(type='Accuracy', topk=(1,))]
val_evaluator = test_evaluator
