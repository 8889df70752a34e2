"""VGG-aib on CIFAR-10 (paper, 4.1.1)."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/cifar10.py',
    '_base_/schedules/vgg_200e_aib.py',
    '_base_/attention_runtime.py',
]
