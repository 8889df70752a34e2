"""As one_cycle_5e.py, over 15 epochs."""

_base_ = 'one_cycle_5e.py'

param_scheduler = dict(total_steps=15)
train_cfg = dict(max_epochs=15, val_interval=15)
