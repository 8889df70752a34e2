"""WRN-50-2 for 200 classes: the host's."""

_base_ = 'mmpretrain::_base_/models/wide-resnet50.py'

custom_imports = dict(imports=['aib_mm'])

model = dict(
    # ImageNet's weights take the place of what is drawn here.
    backbone=dict(zero_init_residual=False),
    head=dict(num_classes=200),
)
