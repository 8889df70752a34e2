"""WRN-ABN on CIFAR-10: a row of the paper's Table 5."""

_base_ = [
    '_base_/models/wrn28-10_abn.py',
    '_base_/datasets/cifar10.py',
    '_base_/schedules/wrn_200e.py',
    '_base_/attention_runtime.py',
]
