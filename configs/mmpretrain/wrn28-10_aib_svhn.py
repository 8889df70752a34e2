"""WRN-aib on SVHN (paper, 4.2.2)."""

_base_ = [
    '_base_/models/wrn28-10_aib.py',
    '_base_/datasets/svhn.py',
    '_base_/schedules/wrn_200e.py',
    '_base_/attention_runtime.py',
]
