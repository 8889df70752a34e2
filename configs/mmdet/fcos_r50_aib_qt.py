"""FCOS R50 on COCO with quantised attention before its own head.

There is no latent, so no divergence; the hook adds the quantisation losses.
"""

_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

custom_imports = dict(imports=['aib_mm'])

model = dict(
    neck=dict(
        _delete_=True,  # it is held by the attention now
        type='AIBAttention',
        in_channels=256,
        train_samples=1,
        test_samples=4,
        quantizer=dict(type='VQAnchorQuantizer', num_anchors=20),
        pre_neck={{_base_.model.neck}},
    ),
)

default_hooks = dict(
    aib_monitor=dict(type='AIBMonitorHook'),
    aib_loss=dict(
        type='AIBLossHook', vq_weight=0.4, commit_weight=0.1, attention_price=0.0
    ),
)
