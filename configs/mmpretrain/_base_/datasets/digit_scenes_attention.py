"""DigitScenes, and measures of where the attention lies and what the latent tells."""

_base_ = 'digit_scenes.py'

test_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    dict(type='AttentionLocalization'),
    # The noise encoders of the paper's Table 2 have no density.
    dict(type='LatentInformation', optional=True),
]
val_evaluator = test_evaluator

custom_hooks = [dict(type='AIBMonitorHook')]
