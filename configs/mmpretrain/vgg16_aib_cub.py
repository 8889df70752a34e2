"""VGG-aib on CUB (paper, 4.2.2), from ImageNet weights: see docs/classification.md."""

_base_ = [
    '_base_/models/vgg16-224_aib.py',
    '_base_/datasets/cub.py',
    '_base_/schedules/cub_200e.py',
    '_base_/attention_runtime.py',
]

# Written by python -m aib_mm.classification.imagenet_weights.
load_from = 'pretrain/vgg16_aib_in1k.pth'
