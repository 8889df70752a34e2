"""UperNet-BEiT-aib-qt: attention scores rounded to 20 anchors (Table 6)."""

_base_ = 'upernet_beit_aib.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
