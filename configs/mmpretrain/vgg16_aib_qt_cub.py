"""VGG-aib-qt on CUB: attention scores rounded to 20 anchors (paper, 4.2.2)."""

_base_ = 'vgg16_aib_cub.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
