"""VGG-att3 at 224×224: blocks 3, 4 and 5; the maps are 28×28, 14×14 and 14×14."""

_base_ = 'vgg16_224_att2.py'

model = dict(
    backbone=dict(out_indices=(2, 3, 4)),
    neck=dict(in_channels=(256, 512, 512)),
    head=dict(in_channels=256 + 512 + 512),
)
