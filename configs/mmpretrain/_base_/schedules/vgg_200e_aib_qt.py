"""As vgg_200e.py, with the released code's warm-up and anchors' learning rate for qt.

One epoch at 0.001, one at 0.01, then 0.1. The anchors learn at the full rate, which is
what that code does for VGG.
"""

_base_ = 'vgg_200e.py'

optim_wrapper = dict(optimizer=dict(lr=0.001))
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[1, 2], gamma=10),
    dict(type='StepLR', by_epoch=True, step_size=25, gamma=0.5),
]
