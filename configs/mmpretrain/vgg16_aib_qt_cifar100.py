"""VGG-aib-qt on CIFAR-100: attention scores rounded to 20 anchors (paper, 4.1.1)."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/cifar100.py',
    '_base_/schedules/vgg_200e_aib_qt.py',
    '_base_/attention_runtime.py',
]

model = dict(
    neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)),
    head=dict(num_classes=100),
)
