"""VGG16 for 224×224 images and 200 classes: the host's, with its three FC layers."""

_base_ = 'mmpretrain::_base_/models/vgg16.py'

custom_imports = dict(imports=['aib_mm'])

model = dict(backbone=dict(num_classes=200))
