"""WRN-aib-qt on CIFAR-100: attention scores rounded to 50 anchors (paper, 4.1.1)."""

_base_ = 'wrn28-10_aib_cifar100.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=50)))
