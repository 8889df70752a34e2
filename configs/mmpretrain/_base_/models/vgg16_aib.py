"""VGG-aib (paper, Table 1): attention after block 3, Gaussian encoder of blocks 4-6."""

custom_imports = dict(imports=['aib_mm'])

# The authors' released code: Xavier uniform with gain sqrt(2), BN weight in U(0, 1).
vgg_init = [
    dict(
        type='Xavier', layer=['Conv2d', 'Linear'], gain=2**0.5, distribution='uniform'
    ),
    dict(type='Uniform', layer='BatchNorm2d', a=0.0, b=1.0),
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VGGBlocks', blocks=(1, 2, 3), pointwise=False, init_cfg=vgg_init
    ),
    neck=dict(
        type='AIBAttention',
        in_channels=256,
        std_kernel_size=3,
        train_samples=1,
        test_samples=4,
        init_cfg=vgg_init,
    ),
    head=dict(
        type='AIBClsHead',
        num_classes=10,
        encoder=dict(
            type='GaussianEncoder',
            body=dict(type='VGGBlocks', blocks=(4, 5, 6), pointwise=True),
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
        init_cfg=vgg_init,
    ),
)
