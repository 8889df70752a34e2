"""VGG-GAP on CIFAR-100: a row of the paper's Table 5."""

_base_ = [
    '_base_/models/vgg16_gap.py',
    '_base_/datasets/cifar100.py',
    '_base_/schedules/vgg_200e.py',
    '_base_/attention_runtime.py',
]

model = dict(head=dict(num_classes=100))
