"""WRN-aib (paper, Table 1): block 3 in the attention module and, apart, the encoder."""

_base_ = 'wrn28_10.py'

model = dict(
    backbone=dict(blocks=(1, 2)),
    # The vanilla's pooling and FC layer give way to the attention and the latent.
    neck=dict(
        _delete_=True,
        type='AIBAttention',
        in_channels=320,
        std_kernel_size=3,
        # Stride 1: the map is as large as the features, 16×16.
        mean_branch=dict(type='WideResNetBlocks', blocks=(3,), first_stride=1),
    ),
    head=dict(
        _delete_=True,
        type='AIBClsHead',
        num_classes=10,
        latent_dim=512,  # the authors' released code; the paper prints none for WRN
        encoder=dict(
            type='GaussianEncoder', body=dict(type='WideResNetBlocks', blocks=(3,))
        ),
        decoder=dict(type='LatentDecoder', hidden=False),
    ),
)
