"""VGG-GAP at 224×224: the convs of the host's VGG16, map 14×14 (Zhou et al.)."""

custom_imports = dict(imports=['aib_mm'])

model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=16, with_last_pool=False),
    neck=None,  # the head pools
    head=dict(type='CAMHead', num_classes=200, in_channels=512),
)
