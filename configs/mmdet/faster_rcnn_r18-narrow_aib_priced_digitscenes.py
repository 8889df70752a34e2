"""Narrow Faster R-CNN-aib whose maps pay for what they let through."""

_base_ = [
    '_base_/models/faster_rcnn_r18-narrow_aib.py',
    '_base_/datasets/digit_scenes_128.py',
    '_base_/evaluators/digit_scenes_priced.py',
    '_base_/schedules/one_cycle_16e.py',
    '_base_/attention_runtime.py',
]

model = dict(
    neck=dict(
        modulation='replace',
        # A score sees what surrounds its position.
        mean_branch=dict(
            type='ConvModule',
            in_channels=64,
            out_channels=64,
            kernel_size=3,
            padding=1,
            # Not batch norm: four levels share it, each with statistics of its own.
            norm_cfg=dict(type='GN', num_groups=8),
        ),
    ),
    roi_head=dict(
        bbox_head=dict(
            # Not before the boxes begin to be found, 4 of 16 epochs here.
            aib_loss=dict(attention_price=0.1, price_begin=500, price_end=1000)
        )
    ),
)
