"""CIFAR-100 as the paper: batch 128, test batch 100, flip, crop with padding 4."""

_base_ = 'mmpretrain::_base_/datasets/cifar100_bs16.py'

# The padding mode is the authors' released code.
train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4, padding_mode='reflect'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
# The set holds arrays; lone images, as mmpretrain's tools take them, are files.
test_pipeline = [dict(type='LoadImageIfFile'), dict(type='PackInputs')]

train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=100, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(batch_size=100, dataset=dict(pipeline=test_pipeline))
