"""Faster R-CNN R50 on COCO without attention, for comparison (Table 7)."""

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

# 4 GPUs: the batch of 16, as with attention.
train_dataloader = dict(batch_size=4)
