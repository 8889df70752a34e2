"""Narrow VGG16 with a map that pays, and mmpretrain's own head: no latent."""

_base_ = [
    '_base_/models/vgg16-narrow.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_priced.py',
    '_base_/schedules/one_cycle_16e.py',
    '_base_/cpu_attention_runtime.py',
]

model = dict(
    # Extractor and branch of vgg16-narrow_aib_priced; what was behind is the neck's.
    backbone=dict(blocks=(1, 2, 3), pointwise=False),
    neck=dict(
        _delete_=True,
        type='AIBAttention',
        in_channels=[32],
        std_kernel_size=3,
        train_samples=1,
        test_samples=4,
        modulation='replace',
        mean_branch=dict(type='VGGBlocks', blocks=(4,), width=1 / 8, out_blocks=(4,)),
        post_neck=[
            dict(type='VGGBlocks', blocks=(4, 5, 6), width=1 / 8, pointwise=True),
            dict(type='GlobalAveragePooling'),
        ],
    ),
)
default_hooks = dict(
    aib_loss=dict(
        type='AIBLossHook', attention_price=0.1, price_begin=500, price_end=1000
    )
)
