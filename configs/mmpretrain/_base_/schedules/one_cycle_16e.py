"""As one_cycle_6e.py, over 16 epochs: long enough to compare models by their error."""

_base_ = 'one_cycle_6e.py'

param_scheduler = dict(total_steps=16)
train_cfg = dict(max_epochs=16, val_interval=16)
