"""As vgg_200e.py, with the released code's warm-up: one epoch at 0.01, then 0.1."""

_base_ = 'vgg_200e.py'

optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[1], gamma=10),
    dict(type='StepLR', by_epoch=True, step_size=25, gamma=0.5),
]
