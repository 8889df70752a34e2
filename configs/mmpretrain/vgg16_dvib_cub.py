"""VGG-DVIB on CUB: VGG-aib without the attention; a row of the paper's Table 5."""

_base_ = 'vgg16_aib_cub.py'

model = dict(neck=None)

custom_hooks = []
