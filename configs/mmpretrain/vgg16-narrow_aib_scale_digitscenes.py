"""Narrow VGG16-aib whose features are scaled, without the residual: selective maps."""

_base_ = 'vgg16-narrow_aib_digitscenes.py'

model = dict(neck=dict(modulation='scale'))
