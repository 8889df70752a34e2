"""Full-size Faster R-CNN R50-aib on DigitScenes, for a GPU.

From random weights: as faster_rcnn_r50_digitscenes.py.
"""

_base_ = [
    '_base_/models/faster_rcnn_r50_aib.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_16e.py',
    '_base_/attention_runtime.py',
]

model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None),
    roi_head=dict(bbox_head=dict(num_classes=10)),
)

optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = dict(eta_max=2e-4)
