"""The most selective narrow VGG16-aib found: scaling, and scores that start low."""

_base_ = 'vgg16-narrow_aib_scale_digitscenes.py'

model = dict(neck=dict(initial_score=0.05))
