"""SVHN as the paper (4.2.2): the augmentation of CIFAR-10, flips included.

The authors' released code takes the train split alone, and .5/.5 for normalisation. For
the extra images: ``train_dataloader.dataset.split='train+extra'``.
"""

data_preprocessor = dict(
    num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=False
)

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4, padding_mode='reflect'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
# The set holds arrays; lone images, as mmpretrain's tools take them, are files.
test_pipeline = [dict(type='LoadImageIfFile'), dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='SVHN', data_root='data/svhn', split='train', pipeline=train_pipeline
    ),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='SVHN', data_root='data/svhn', split='test', pipeline=test_pipeline
    ),
)
val_dataloader = test_dataloader

test_evaluator = dict(type='Accuracy', topk=(1,))
val_evaluator = test_evaluator
