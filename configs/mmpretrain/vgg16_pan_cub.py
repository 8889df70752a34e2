"""VGG-PAN on CUB, from ImageNet weights: a row of the paper's Table 5."""

_base_ = [
    '_base_/models/vgg16-224_pan.py',
    '_base_/datasets/cub.py',
    '_base_/schedules/cub_200e.py',
    '_base_/attention_runtime.py',
]

# Written by python -m aib_mm.classification.imagenet_weights.
load_from = 'pretrain/vgg16_pan_in1k.pth'
