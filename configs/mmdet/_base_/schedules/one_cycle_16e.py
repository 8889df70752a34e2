"""AdamW with one cycle over 16 epochs: short, for small data and random weights."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=10),
)
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=2e-3,
    total_steps=16,
    by_epoch=True,
    convert_to_iter_based=True,
)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=16, val_interval=16)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
