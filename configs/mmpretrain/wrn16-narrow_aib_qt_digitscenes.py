"""Narrow WRN-aib-qt on DigitScenes, its scores rounded to 50 anchors."""

_base_ = 'wrn16-narrow_aib_digitscenes.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=50)))
