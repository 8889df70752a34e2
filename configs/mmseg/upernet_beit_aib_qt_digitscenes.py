"""UperNet-BEiT-aib-qt in full size on DigitScenes: scores rounded to 20 anchors."""

_base_ = 'upernet_beit_aib_digitscenes.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))

# Decay would pull an anchor that no position picks to 0.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'quantizer': dict(decay_mult=0.0)})
)
