"""Narrow Faster R-CNN-aib-qt on DigitScenes: scores rounded to 20 anchors."""

_base_ = 'faster_rcnn_r18-narrow_aib_digitscenes.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
