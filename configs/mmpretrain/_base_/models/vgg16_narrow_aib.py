"""VGG-aib at an eighth of its width: small enough to train on two cores."""

custom_imports = dict(imports=['aib_mm'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGGBlocks', blocks=(1, 2, 3), width=1 / 8),
    neck=dict(type='AIBAttention', in_channels=32, std_kernel_size=3),
    head=dict(
        type='AIBClsHead',
        num_classes=10,
        latent_dim=64,
        encoder=dict(
            type='GaussianEncoder',
            body=dict(type='VGGBlocks', blocks=(4, 5, 6), width=1 / 8, pointwise=True),
        ),
    ),
)
