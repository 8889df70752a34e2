"""Narrow VGG16-aib-qt on DigitScenes, its scores rounded to 20 anchors."""

_base_ = 'vgg16-narrow_aib_digitscenes.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
