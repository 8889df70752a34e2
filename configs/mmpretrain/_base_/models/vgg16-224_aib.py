"""VGG-aib for CUB (paper, Table 4): all convs of VGG16 are the extractor, map 14×14."""

custom_imports = dict(imports=['aib_mm'])

model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=16, with_last_pool=False),
    neck=dict(
        type='AIBAttention',
        in_channels=512,
        std_kernel_size=3,
        train_samples=1,
        test_samples=4,
    ),
    head=dict(
        type='AIBClsHead',
        num_classes=200,
        encoder=dict(type='GaussianEncoder', in_features=512),
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
