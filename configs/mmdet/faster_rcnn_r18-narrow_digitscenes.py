"""Narrow Faster R-CNN without attention on DigitScenes, for comparison."""

_base_ = [
    '_base_/models/faster_rcnn_r18-narrow.py',
    '_base_/datasets/digit_scenes_128.py',
    '_base_/evaluators/digit_scenes.py',
    '_base_/schedules/one_cycle_16e.py',
    'mmdet::_base_/default_runtime.py',
]
