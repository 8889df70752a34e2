"""As one_cycle_6e.py, over 4 epochs at a third of the rate: for trained weights."""

_base_ = 'one_cycle_6e.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = dict(eta_max=1e-3, total_steps=4)
train_cfg = dict(max_epochs=4, val_interval=4)
