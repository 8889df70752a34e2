"""VGG-aib-qt on CIFAR-10: attention scores rounded to 20 anchors (paper, 4.1.1)."""

_base_ = 'vgg16_aib_cifar10.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))

# Warm-up of the authors' released code: one epoch at 0.001, one at 0.01, then 0.1. The
# anchors learn at the full rate, which is what that code does for VGG. They do not
# decay: decay would pull an anchor that no position picks to 0.
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    paramwise_cfg=dict(custom_keys={'quantizer.anchors': dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[1, 2], gamma=10),
    dict(type='StepLR', by_epoch=True, step_size=25, gamma=0.5),
]
