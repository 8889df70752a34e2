"""VGG-GAP: no pool after block 5, a 3×3 conv, pooling, one FC layer (Zhou et al.)."""

_base_ = 'vgg16.py'

model = dict(
    # The map is that of the last conv: 8×8 at 32×32.
    backbone=dict(blocks=(1, 2, 3, 4, 5), out_blocks=(5,), pointwise=False),
    neck=None,  # the head pools
    head=dict(
        _delete_=True,
        type='CAMHead',
        num_classes=10,
        in_channels=512,
        init_cfg={{_base_.vgg_init}},
    ),
)
