"""UperNet-BEiT-aib in full size on DigitScenes, for one GPU."""

_base_ = 'upernet_beit_digitscenes.py'

custom_imports = dict(imports=['aib_mm'])

model = dict(
    neck=dict(
        _delete_=True,  # it is held by the attention now
        type='AIBAttention',
        in_channels=[768] * 4,
        shared=False,  # tokens of different depth
        test_samples=2,
        post_neck={{_base_.model.neck}},
    ),
    decode_head=dict(type='AIBDecodeHead'),
)

val_evaluator = [
    {{_base_.val_evaluator}},
    dict(type='AttentionLocalization', region=dict(type='classes', background=[0])),
]
test_evaluator = val_evaluator

custom_hooks = [dict(type='AIBMonitorHook'), dict(type='AttentionFieldsHook')]
