"""Faster R-CNN R50-aib on COCO (paper, 4.2.5 and Table 7): 4 GPUs, batch 16, 12 epochs.

The host's 1x recipe; L_a = L_z = 1 in training, 4 and 1 at test.
"""

_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

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

train_dataloader = dict(batch_size=4)

custom_hooks = [dict(type='AIBMonitorHook')]
