"""WRN-aib on CIFAR-10 (paper, 4.1.1)."""

_base_ = [
    '_base_/models/wrn28_10_aib.py',
    '_base_/datasets/cifar10.py',
    '_base_/schedules/wrn_200e.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_hooks = [dict(type='AIBMonitorHook')]
