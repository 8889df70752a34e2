"""WRN-aib with the conventions in which the authors' released code leaves the paper.

docs/method.md lists them; docs/classification.md has the attention branch. The paper's
own are the defaults: see wrn28-10_aib_cifar10.py.
"""

_base_ = 'wrn28-10_aib_cifar10.py'

model = dict(
    # A 1×1 conv to as many channels as there are classes.
    neck=dict(std_source='mean', mean_branch=dict(pointwise=10)),
    head=dict(
        train_average='logit',
        # Cross-entropy in bits.
        loss=dict(type='CrossEntropyLoss', loss_weight=1 / 0.6931471805599453),
        aib_loss=dict(
            kl=dict(
                type='GaussianKL',
                reduction='sum',
                units='bits',
                kl_std='exponential',
            ),
        ),
        # FC weights as torch starts them, and biases at 0.
        init_cfg=dict(
            type='Kaiming',
            layer='Linear',
            a=5**0.5,
            mode='fan_in',
            nonlinearity='leaky_relu',
            distribution='uniform',
            bias=0,
        ),
    ),
)

param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[60, 120, 160], gamma=0.2)
]
