"""The paper's Table 5 on CIFAR-10; for tools/grid.py."""

_base_ = ['_base_/table5.py', '_base_/cifar10.py']
