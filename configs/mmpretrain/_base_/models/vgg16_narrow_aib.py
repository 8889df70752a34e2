"""VGG-aib at an eighth of its width: small enough to train on two cores."""

_base_ = 'vgg16_narrow.py'

model = dict(
    backbone=dict(blocks=(1, 2, 3), pointwise=False),
    # The vanilla's pooling and FC layer give way to the attention and the latent.
    neck=dict(_delete_=True, type='AIBAttention', in_channels=32, std_kernel_size=3),
    head=dict(
        _delete_=True,
        type='AIBClsHead',
        num_classes=10,
        latent_dim=64,
        encoder=dict(
            type='GaussianEncoder',
            body=dict(type='VGGBlocks', blocks=(4, 5, 6), width=1 / 8, pointwise=True),
        ),
    ),
)
