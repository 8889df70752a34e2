"""DigitScenes at half the size, for a small network on two cores."""

_base_ = 'digit_scenes.py'

resize = dict(type='Resize', scale=(128, 128), keep_ratio=True)

train_pipeline = [
    resize if step['type'] == 'Resize' else step for step in _base_.train_pipeline
]
test_pipeline = [
    resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
