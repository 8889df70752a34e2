"""Evaluators of DigitScenes: also where the attention lies and what the latent tells.

The attention is in the data samples with ``_base_/attention_runtime.py``.
"""

test_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    dict(type='AttentionLocalization'),
    # The noise encoders of the paper's Table 2 have no density.
    dict(type='LatentInformation', optional=True),
]
val_evaluator = test_evaluator
