"""VGG-att3 on SVHN: a row of the paper's Table 5."""

_base_ = [
    '_base_/models/vgg16_att3.py',
    '_base_/datasets/svhn.py',
    '_base_/schedules/vgg_200e.py',
    '_base_/attention_runtime.py',
]
