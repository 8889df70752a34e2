"""Adam with one cycle over 5 epochs: short, for small data."""

optim_wrapper = dict(optimizer=dict(type='Adam', lr=2e-3))
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=2e-3,
    total_steps=5,
    by_epoch=True,
    convert_to_iter_based=True,
)

train_cfg = dict(by_epoch=True, max_epochs=5, val_interval=5)
val_cfg = dict()
test_cfg = dict()
