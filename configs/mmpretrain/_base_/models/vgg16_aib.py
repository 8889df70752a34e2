"""VGG-aib (paper, Table 1): attention after block 3, Gaussian encoder of blocks 4-6."""

_base_ = 'vgg16.py'

model = dict(
    backbone=dict(blocks=(1, 2, 3), pointwise=False),
    # The vanilla's pooling and FC layer give way to the attention and the latent.
    neck=dict(
        _delete_=True,
        type='AIBAttention',
        in_channels=256,
        std_kernel_size=3,
        init_cfg={{_base_.vgg_init}},
    ),
    head=dict(
        _delete_=True,
        type='AIBClsHead',
        num_classes=10,
        encoder=dict(
            type='GaussianEncoder',
            body=dict(type='VGGBlocks', blocks=(4, 5, 6), pointwise=True),
        ),
        init_cfg={{_base_.vgg_init}},
    ),
)
