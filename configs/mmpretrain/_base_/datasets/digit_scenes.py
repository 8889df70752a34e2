"""DigitScenes, 32x32: ``python tools/digit_scenes.py`` makes it; no flips, as digits
are not symmetric. The masks are loaded for testing only, for the evaluators."""

dataset_type = 'DigitScenes'
data_root = 'data/digitscenes/classification'

data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

# Digits touch the border: a shift by more would cut them.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=2, padding_mode='reflect'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadMaskAnnotations'),
    dict(type='PackInputs', algorithm_keys=('gt_seg_map',)),
]

# No worker processes: handing a small image over costs more than reading it.
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline
    ),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type, data_root=data_root, split='test', pipeline=test_pipeline
    ),
)
val_dataloader = test_dataloader
