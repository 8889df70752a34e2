"""The paper's Table 2 on CIFAR-10; for tools/grid.py."""

_base_ = ['_base_/table2.py', '_base_/cifar10.py']
