"""VGG-aib with every convention in which the authors' released code leaves the paper.

docs/method.md lists them. The paper's own are the defaults: see vgg16_aib_cifar10.py.
"""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/cifar10.py',
    '_base_/schedules/vgg_200e_aib.py',
    '_base_/attention_runtime.py',
]

model = dict(
    neck=dict(std_source='mean'),
    head=dict(
        train_average='logit',
        # Cross-entropy in bits.
        loss=dict(type='CrossEntropyLoss', loss_weight=1 / 0.6931471805599453),
        aib_loss=dict(
            # The released VGG script halves the divergence.
            beta=0.01 * 0.5,
            kl=dict(
                type='GaussianKL',
                reduction='sum',
                units='bits',
                kl_std='exponential',
            ),
        ),
    ),
)

param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[1], gamma=10),
    # Epochs 25, 50, ..., 200, counted from 1: that code steps its schedule first.
    dict(
        type='MultiStepLR', by_epoch=True, milestones=[*range(24, 200, 25)], gamma=0.5
    ),
]
