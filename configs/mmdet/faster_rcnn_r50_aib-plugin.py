"""Faster R-CNN R50 with attention in each block of the last two stages of the backbone.

A layer of the host's plugin mechanism; neck and heads are the host's own.
"""

_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['aib_mm'])

model = dict(
    backbone=dict(
        plugins=[
            dict(
                # Pretrained weights follow: each layer starts as a factor of 1.01.
                cfg=dict(
                    type='AIBLayer',
                    initial_score=0.01,
                    train_samples=1,
                    test_samples=4,
                ),
                stages=(False, False, True, True),
                position='after_conv3',
            )
        ]
    )
)

default_hooks = dict(aib_monitor=dict(type='AIBMonitorHook', interval=200))
