"""VGG-att3: attention over the local features of blocks 3, 4 and 5 (Jetley et al.)."""

_base_ = 'vgg16_att2.py'

model = dict(
    backbone=dict(out_blocks=(3, 4, 5)),
    neck=dict(in_channels=(256, 512, 512)),
    head=dict(in_channels=256 + 512 + 512),
)
