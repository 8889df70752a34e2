"""Cascade R-CNN R50-aib on COCO: two latents in each of the three stages."""

_base_ = 'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['aib_mm'])

stage = dict(
    type='GaussianBBoxHead',
    train_samples=1,
    test_samples=1,
    aib_loss=dict(
        type='AIBLoss',
        beta=0.01,
        vq_weight=0.4,
        commit_weight=0.1,
        attention_price=0.0,
    ),
)

model = dict(
    neck=dict(
        _delete_=True,  # it is held by the attention now
        type='AIBAttention',
        in_channels=256,
        train_samples=1,
        test_samples=4,
        pre_neck={{_base_.model.neck}},
    ),
    roi_head=dict(
        type='GaussianCascadeRoIHead',
        bbox_head=[dict(head, **stage) for head in _base_.model.roi_head.bbox_head],
    ),
)

default_hooks = dict(aib_monitor=dict(type='AIBMonitorHook'))
