"""WRN-aib with a cheaper attention branch than the paper's, on CIFAR-10.

One residual block of a quarter of the width, where the paper has all of block 3: 3 % of
its multiply-accumulates. docs/performance.md says what that costs.
"""

_base_ = 'wrn28-10_aib_cifar10.py'

model = dict(
    neck=dict(mean_branch=dict(depth=10, widen_factor=2.5, in_channels=320)),
)
