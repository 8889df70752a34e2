"""Adam with one cycle over 6 epochs: short, for small data."""

optim_wrapper = dict(optimizer=dict(type='Adam', lr=3e-3))
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=3e-3,
    # Deep and narrow networks wait on a plateau until the rate is high.
    pct_start=0.1,
    total_steps=6,
    by_epoch=True,
    convert_to_iter_based=True,
)

train_cfg = dict(by_epoch=True, max_epochs=6, val_interval=6)
val_cfg = dict()
test_cfg = dict()
