"""WRN-aib-qt on CUB: attention scores rounded to 50 anchors (paper, 4.2.2)."""

_base_ = 'wrn50-2_aib_cub.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=50)))
