"""As digit_scenes_attention.py; also where the bits are that the map lets through."""

_base_ = 'digit_scenes_attention.py'

test_evaluator = [
    *_base_.test_evaluator,
    dict(
        type='AttentionLocalization',
        field='attention_bits',
        prefix='bits',
        region='boxes',
    ),
]
val_evaluator = test_evaluator
