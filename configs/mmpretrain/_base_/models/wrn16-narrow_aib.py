"""WRN-aib of WRN-16-1: small enough to train on two cores."""

custom_imports = dict(imports=['aib_mm'])

wrn = dict(type='WideResNetBlocks', depth=16, widen_factor=1, dropout=0.0)

model = dict(
    type='ImageClassifier',
    backbone=dict(wrn, blocks=(1, 2)),
    neck=dict(
        type='AIBAttention',
        in_channels=32,
        std_kernel_size=3,
        # Stride 1: the map is as large as the features, 16×16.
        mean_branch=dict(wrn, blocks=(3,), first_stride=1),
        train_samples=1,
        test_samples=4,
    ),
    head=dict(
        type='AIBClsHead',
        num_classes=10,
        latent_dim=64,
        encoder=dict(type='GaussianEncoder', body=dict(wrn, blocks=(3,))),
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
