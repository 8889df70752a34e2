"""VGG-PAN on CIFAR-10: a row of the paper's Table 5."""

_base_ = [
    '_base_/models/vgg16_pan.py',
    '_base_/datasets/cifar10.py',
    '_base_/schedules/vgg_200e.py',
    '_base_/attention_runtime.py',
]
