"""Narrow UperNet-BEiT without attention on DigitScenes, for comparison."""

_base_ = [
    '_base_/models/upernet_beit_narrow.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/schedules/one_cycle_20e.py',
    '_base_/default_runtime.py',
]

# Few photographs: without changes of colour the model learns them by heart.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(64, 64), ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    # After the resize: the prediction is compared in the scene's own size.
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
