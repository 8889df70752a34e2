"""``tiny_classifier.py`` with random numbers everywhere: in loading, model and test."""

_base_ = 'tiny_classifier.py'

model = dict(
    neck=dict(_delete_=True, type='AIBAttention', in_channels=32, std_shift=0.0),
    head=dict(
        _delete_=True,
        type='AIBClsHead',
        num_classes=10,
        latent_dim=8,
        encoder=dict(type='GaussianEncoder', in_features=32, std_shift=0.0),
    ),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ]
    )
)
train_cfg = dict(max_epochs=3)
