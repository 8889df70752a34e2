"""VGG-att2 at 224×224: blocks 4 and 5 of the host's VGG16 (Jetley et al.).

The host hands out block 4 behind its pool: both maps are 14×14.
"""

custom_imports = dict(imports=['aib_mm'])

model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=16, with_last_pool=False, out_indices=(3, 4)),
    neck=dict(type='LocalAttention', in_channels=(512, 512)),
    head=dict(type='LinearClsHead', num_classes=200, in_channels=512 + 512),
)
