"""Full-size Faster R-CNN R50 without attention on DigitScenes, for a GPU.

From random weights: the pretrained ones cannot be downloaded everywhere, and then batch
norm has to learn too.
"""

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes.py',
    '_base_/schedules/one_cycle_16e.py',
    'mmdet::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None),
    roi_head=dict(bbox_head=dict(num_classes=10)),
)

optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = dict(eta_max=2e-4)
