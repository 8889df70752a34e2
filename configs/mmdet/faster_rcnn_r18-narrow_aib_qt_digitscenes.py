"""Narrow Faster R-CNN-aib-qt on DigitScenes: scores rounded to 20 anchors."""

_base_ = [
    '_base_/models/faster_rcnn_r18-narrow_aib.py',
    '_base_/datasets/digit_scenes_128.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_16e.py',
    '_base_/attention_runtime.py',
]

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
