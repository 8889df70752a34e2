"""VGG-att2 on CUB, from ImageNet weights: a row of the paper's Table 5."""

_base_ = [
    '_base_/models/vgg16-224_att2.py',
    '_base_/datasets/cub.py',
    '_base_/schedules/cub_200e.py',
    '_base_/attention_runtime.py',
]

load_from = 'https://download.openmmlab.com/mmclassification/v0/vgg/vgg16_batch256_imagenet_20210208-db26f1a5.pth'
