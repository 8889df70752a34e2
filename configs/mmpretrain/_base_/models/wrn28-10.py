"""The paper's vanilla WRN-28-10 for 32×32 images."""

custom_imports = dict(imports=['aib_mm'])

model = dict(
    type='ImageClassifier',
    backbone=dict(type='WideResNetBlocks'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=640),
)
