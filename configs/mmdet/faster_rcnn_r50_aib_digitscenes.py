"""Full-size Faster R-CNN R50-aib on DigitScenes, for a GPU."""

_base_ = 'faster_rcnn_r50_digitscenes.py'

custom_imports = dict(imports=['aib_mm'])

model = dict(
    neck=dict(
        _delete_=True,  # it is held by the attention now
        type='AIBAttention',
        in_channels=256,
        pre_neck={{_base_.model.neck}},
    ),
    roi_head=dict(type='GaussianRoIHead', bbox_head=dict(type='GaussianBBoxHead')),
)

val_evaluator = [
    *_base_.val_evaluator,
    dict(type='AttentionLocalization', region='boxes'),
]
test_evaluator = val_evaluator
custom_hooks = [dict(type='AIBMonitorHook'), dict(type='AttentionFieldsHook')]
