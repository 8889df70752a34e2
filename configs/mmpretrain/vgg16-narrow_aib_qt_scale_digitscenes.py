"""Narrow VGG16-aib-qt whose features are scaled, without the residual."""

_base_ = 'vgg16-narrow_aib_qt_digitscenes.py'

model = dict(neck=dict(modulation='scale'))
