"""Faster R-CNN R50-aib-qt: attention scores rounded to 20 anchors (Table 7)."""

_base_ = 'faster_rcnn_r50_aib.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
