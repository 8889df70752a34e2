"""The paper's Table 5 on SVHN; for tools/grid.py."""

_base_ = ['_base_/table5.py', '_base_/svhn.py']
