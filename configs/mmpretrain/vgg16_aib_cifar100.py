"""VGG-aib on CIFAR-100 (paper, 4.1.1)."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/cifar100.py',
    '_base_/schedules/vgg_200e_aib.py',
    '_base_/attention_runtime.py',
]

model = dict(head=dict(num_classes=100))
