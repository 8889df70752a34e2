"""Narrow VGG16-aib-qt whose features are scaled, without the residual."""

_base_ = 'vgg16-narrow_aib_digitscenes.py'

model = dict(
    neck=dict(
        modulation='scale', quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)
    )
)
