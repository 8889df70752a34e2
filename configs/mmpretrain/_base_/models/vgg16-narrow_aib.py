"""VGG-aib at an eighth of its width: small enough to train on two cores."""

custom_imports = dict(imports=['aib_mm'])

model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGGBlocks', blocks=(1, 2, 3), width=1 / 8, pointwise=False),
    neck=dict(
        type='AIBAttention',
        in_channels=32,
        std_kernel_size=3,
        train_samples=1,
        test_samples=4,
    ),
    head=dict(
        type='AIBClsHead',
        num_classes=10,
        latent_dim=64,
        encoder=dict(
            type='GaussianEncoder',
            body=dict(type='VGGBlocks', blocks=(4, 5, 6), width=1 / 8, pointwise=True),
        ),
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
