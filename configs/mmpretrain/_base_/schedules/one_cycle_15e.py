"""As one_cycle_6e.py, over 15 epochs; the full width bears a lower rate."""

_base_ = 'one_cycle_6e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = dict(eta_max=5e-4, total_steps=15)
train_cfg = dict(max_epochs=15, val_interval=15)
