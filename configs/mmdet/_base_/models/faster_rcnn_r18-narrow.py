"""Faster R-CNN on a ResNet-18 of a quarter of the width: trains on two cores."""

_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

channels = 64

model = dict(
    backbone=dict(
        depth=18,
        base_channels=16,
        num_stages=4,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=channels, num_outs=4),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            # Digits of 13 to 37 pixels; one sample a bin is a quarter of the time.
            roi_layer=dict(sampling_ratio=1),
            out_channels=channels,
            featmap_strides=[4, 8, 16],
            finest_scale=28,
        ),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=10),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(max_per_img=30)),
)
