"""WRN-aib-qt on SVHN: attention scores rounded to 50 anchors (paper, 4.2.2)."""

_base_ = 'wrn28-10_aib_svhn.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=50)))
