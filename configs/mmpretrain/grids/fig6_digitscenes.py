"""The paper's Fig. 6 on DigitScenes, narrow; for tools/grid.py."""

_base_ = ['_base_/fig6.py', '_base_/digitscenes.py']
