"""Faster R-CNN R50-aib on COCO (paper, 4.2.5 and Table 7): 4 GPUs, batch 16, 12 epochs.

The host's 1x recipe.
"""

_base_ = [
    '_base_/models/faster_rcnn_r50_aib.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=4)

default_hooks = dict(aib_monitor=dict(type='AIBMonitorHook'))
