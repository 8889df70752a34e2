"""Mask R-CNN R50-aib on COCO: the mask head sees the attended features."""

_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['aib_mm'])

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
        type='GaussianRoIHead',
        bbox_head=dict(
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
        ),
    ),
)

default_hooks = dict(aib_monitor=dict(type='AIBMonitorHook'))
