"""VGG-att3 at 224×224: blocks 3, 4 and 5; the maps are 28×28, 14×14 and 14×14."""

custom_imports = dict(imports=['aib_mm'])

model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=16, with_last_pool=False, out_indices=(2, 3, 4)),
    neck=dict(type='LocalAttention', in_channels=(256, 512, 512)),
    head=dict(type='LinearClsHead', num_classes=200, in_channels=256 + 512 + 512),
)
