"""Narrow VGG16-aib, modulated by scaling, whose scores start at 0.05."""

_base_ = 'vgg16-narrow_aib_digitscenes.py'

model = dict(neck=dict(modulation='scale', initial_score=0.05))
