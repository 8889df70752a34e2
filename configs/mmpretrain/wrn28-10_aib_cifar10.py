"""WRN-aib on CIFAR-10 (paper, 4.1.1)."""

_base_ = [
    '_base_/models/wrn28-10_aib.py',
    '_base_/datasets/cifar10.py',
    '_base_/schedules/wrn_200e.py',
    '_base_/attention_runtime.py',
]
