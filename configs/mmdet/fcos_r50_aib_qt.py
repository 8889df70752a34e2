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
        quantizer=dict(type='VQAnchorQuantizer', num_anchors=20),
        pre_neck={{_base_.model.neck}},
    )
)

# Decay would pull an anchor that no position picks to 0.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'quantizer.anchors': dict(decay_mult=0.0)})
)

custom_hooks = [dict(type='AIBMonitorHook'), dict(type='AIBLossHook')]
