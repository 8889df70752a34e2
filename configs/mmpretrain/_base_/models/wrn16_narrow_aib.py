"""WRN-aib of WRN-16-1: small enough to train on two cores."""

_base_ = 'wrn16_narrow.py'

block3 = dict(
    type='WideResNetBlocks', blocks=(3,), depth=16, widen_factor=1, dropout=0.0
)

model = dict(
    backbone=dict(blocks=(1, 2)),
    # The vanilla's pooling and FC layer give way to the attention and the latent.
    neck=dict(
        _delete_=True,
        type='AIBAttention',
        in_channels=32,
        std_kernel_size=3,
        mean_branch=dict(block3, first_stride=1),
    ),
    head=dict(
        _delete_=True,
        type='AIBClsHead',
        num_classes=10,
        latent_dim=64,
        encoder=dict(type='GaussianEncoder', body=block3),
        decoder=dict(type='LatentDecoder', hidden=False),
    ),
)
