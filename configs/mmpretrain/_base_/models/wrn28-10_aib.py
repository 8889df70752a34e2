"""WRN-aib (paper, Table 1): block 3 in the attention module and, apart, the encoder."""

custom_imports = dict(imports=['aib_mm'])

model = dict(
    type='ImageClassifier',
    backbone=dict(type='WideResNetBlocks', blocks=(1, 2)),
    neck=dict(
        type='AIBAttention',
        in_channels=320,
        std_kernel_size=3,
        # Stride 1: the map is as large as the features, 16×16.
        mean_branch=dict(type='WideResNetBlocks', blocks=(3,), first_stride=1),
        train_samples=1,
        test_samples=4,
    ),
    head=dict(
        type='AIBClsHead',
        num_classes=10,
        latent_dim=512,  # the authors' released code; the paper prints none for WRN
        encoder=dict(
            type='GaussianEncoder', body=dict(type='WideResNetBlocks', blocks=(3,))
        ),
        decoder=dict(type='LatentDecoder', hidden=False),
        train_samples=1,
        test_samples=4,
        aib_loss=dict(
            type='AIBLoss',
            beta=0.01,
            vq_weight=0.4,
            commit_weight=0.1,
            attention_price=0.0,
        ),
    ),
)
