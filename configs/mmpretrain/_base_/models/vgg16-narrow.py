"""VGG16 at an eighth of its width: small enough to train on two cores."""

custom_imports = dict(imports=['aib_mm'])

model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGGBlocks', width=1 / 8, pointwise=True),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
)
