"""The paper's Fig. 6 on CIFAR-10; for tools/grid.py."""

_base_ = ['_base_/fig6.py', '_base_/cifar10.py']
