"""Full-size Faster R-CNN R50-aib-qt on DigitScenes, for a GPU."""

_base_ = 'faster_rcnn_r50_aib_digitscenes.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
