"""VGG-GAP at 224×224: the convs of the host's VGG16, map 14×14 (Zhou et al.)."""

_base_ = 'vgg16_224_aib.py'

model = dict(
    neck=None,  # the head pools
    head=dict(_delete_=True, type='CAMHead', num_classes=200, in_channels=512),
)
