"""Narrow VGG16-aib, modulated by scaling, whose scores start at 0.05."""

_base_ = 'vgg16-narrow_aib_scale_digitscenes.py'

model = dict(neck=dict(initial_score=0.05))
