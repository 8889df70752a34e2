"""VGG-aib on CIFAR-10 (paper, 4.1.1)."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/cifar10.py',
    '_base_/schedules/vgg_200e.py',
    'mmpretrain::_base_/default_runtime.py',
]

# Warm-up of the authors' released code: the first epoch at 0.01, then 0.1.
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[1], gamma=10),
    dict(type='StepLR', by_epoch=True, step_size=25, gamma=0.5),
]

custom_hooks = [dict(type='AIBMonitorHook')]
