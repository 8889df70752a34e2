"""Full-size VGG16-aib-qt on DigitScenes, for a GPU: scores rounded to 20 anchors."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_15e.py',
    '_base_/attention_runtime.py',
]

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))
