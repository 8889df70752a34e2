"""The paper's Table 5 on CUB; for tools/grid.py."""

_base_ = '_base_/table5.py'

fill = dict(vgg='vgg16', wrn='wrn50-2', data='cub')
