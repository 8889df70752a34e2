"""VGG-PAN: progressive attention on blocks 3, 4 and 5 (Seo et al.)."""

_base_ = 'vgg16.py'

model = dict(
    backbone=dict(blocks=(1, 2, 3), out_blocks=(3,), pointwise=False),
    neck=dict(
        _delete_=True,
        type='ProgressiveAttention',
        in_channels=256,
        stages=[
            dict(type='VGGBlocks', blocks=(4,), out_blocks=(4,)),
            dict(type='VGGBlocks', blocks=(5,), out_blocks=(5,)),
        ],
        init_cfg={{_base_.vgg_init}},
    ),
)
