"""VGG-att3: attention over the local features of blocks 3, 4 and 5 (Jetley et al.)."""

_base_ = 'vgg16.py'

model = dict(
    backbone=dict(blocks=(1, 2, 3, 4, 5), out_blocks=(3, 4, 5), pointwise=False),
    neck=dict(
        _delete_=True,
        type='LocalAttention',
        in_channels=(256, 512, 512),
        init_cfg={{_base_.vgg_init}},
    ),
    head=dict(in_channels=256 + 512 + 512),
)
