"""AdamW with one cycle over 24 epochs: short, for small data and random weights."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=5),
)
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=2e-3,
    pct_start=0.1,
    total_steps=24,
    by_epoch=True,
    convert_to_iter_based=True,
)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=24, val_interval=24)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
