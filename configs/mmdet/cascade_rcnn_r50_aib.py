"""Cascade R-CNN R50-aib on COCO: two latents in each of the three stages."""

_base_ = 'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['aib_mm'])

model = dict(
    neck=dict(
        _delete_=True,  # it is held by the attention now
        type='AIBAttention',
        in_channels=256,
        pre_neck={{_base_.model.neck}},
    ),
    roi_head=dict(
        type='GaussianCascadeRoIHead',
        bbox_head=[
            dict(stage, type='GaussianBBoxHead')
            for stage in _base_.model.roi_head.bbox_head
        ],
    ),
)

custom_hooks = [dict(type='AIBMonitorHook')]
