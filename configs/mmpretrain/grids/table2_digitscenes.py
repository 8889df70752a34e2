"""The paper's Table 2 on DigitScenes, narrow; for tools/grid.py."""

_base_ = ['_base_/table2.py', '_base_/digitscenes.py']
