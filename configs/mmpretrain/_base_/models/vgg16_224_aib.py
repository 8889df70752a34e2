"""VGG-aib for CUB (paper, Table 4): all convs of VGG16 are the extractor, map 14×14."""

custom_imports = dict(imports=['aib_mm'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=16, with_last_pool=False),
    neck=dict(type='AIBAttention', in_channels=512, std_kernel_size=3),
    head=dict(
        type='AIBClsHead',
        num_classes=200,
        encoder=dict(type='GaussianEncoder', in_features=512),
    ),
)
