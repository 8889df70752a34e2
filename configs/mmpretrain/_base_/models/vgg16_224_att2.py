"""VGG-att2 at 224×224: blocks 4 and 5 of the host's VGG16 (Jetley et al.).

The host hands out block 4 behind its pool: both maps are 14×14.
"""

_base_ = 'vgg16_224_aib.py'

model = dict(
    backbone=dict(out_indices=(3, 4)),
    neck=dict(_delete_=True, type='LocalAttention', in_channels=(512, 512)),
    head=dict(
        _delete_=True, type='LinearClsHead', num_classes=200, in_channels=512 + 512
    ),
)
