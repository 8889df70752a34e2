"""Full-size VGG16 on DigitScenes, for a GPU."""

_base_ = [
    '_base_/models/vgg16.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/schedules/one_cycle_5e.py',
    'mmpretrain::_base_/default_runtime.py',
]

# The wide network does not bear the narrow one's 2e-3, and a GPU bears more epochs.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = dict(eta_max=5e-4, total_steps=15)
train_cfg = dict(max_epochs=15, val_interval=15)
