"""Full-size VGG16-aib-qt on DigitScenes, for a GPU: scores rounded to 20 anchors."""

_base_ = 'vgg16_aib_digitscenes.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
