"""UperNet-BEiT-aib-qt in full size on DigitScenes: scores rounded to 20 anchors."""

_base_ = 'upernet_beit_aib_digitscenes.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
