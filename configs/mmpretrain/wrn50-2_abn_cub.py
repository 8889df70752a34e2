"""WRN-ABN on CUB, from ImageNet weights: the paper's Table 5 leaves this cell empty."""

_base_ = [
    '_base_/models/wrn50-2_abn.py',
    '_base_/datasets/cub.py',
    '_base_/schedules/cub_200e.py',
    '_base_/attention_runtime.py',
]

# Written by python -m aib_mm.classification.imagenet_weights.
load_from = 'pretrain/wrn50-2_abn_in1k.pth'
