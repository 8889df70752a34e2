"""Narrow WRN-aib with a cheaper attention branch, as wrn28-10_aib_light_cifar10.py."""

_base_ = 'wrn16-narrow_aib_digitscenes.py'

model = dict(
    neck=dict(mean_branch=dict(depth=10, widen_factor=0.25, in_channels=32)),
)
