"""Faster R-CNN R50 with AIB attention on the FPN's maps and Gaussian latents.

As the paper (4.2.5): L_a = L_z = 1 in training, 4 and 1 at test.
"""

_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

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
