"""Mask R-CNN R50-aib on COCO: the mask head sees the attended features."""

_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

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

custom_hooks = [dict(type='AIBMonitorHook')]
