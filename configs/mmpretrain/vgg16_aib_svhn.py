"""VGG-aib on SVHN (paper, 4.2.2)."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/svhn.py',
    '_base_/schedules/vgg_200e_aib.py',
    '_base_/attention_runtime.py',
]
