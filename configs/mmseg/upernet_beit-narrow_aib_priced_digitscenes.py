"""Narrow UperNet-BEiT-aib whose maps pay for what they let through."""

_base_ = [
    '_base_/models/upernet_beit-narrow_aib.py',
    '_base_/datasets/digit_scenes_64.py',
    '_base_/evaluators/digit_scenes_priced.py',
    '_base_/schedules/one_cycle_24e.py',
    '_base_/attention_runtime.py',
]

model = dict(
    # Its positions are learnt for one size, to which photos of other shapes are padded.
    data_preprocessor=dict(test_cfg=dict(size=(64, 64))),
    neck=dict(
        modulation='replace',
        # A score sees what surrounds its position.
        mean_branch=dict(
            type='ConvModule',
            in_channels=64,
            out_channels=64,
            kernel_size=3,
            padding=1,
            norm_cfg=dict(type='BN'),
        ),
    ),
    decode_head=dict(
        # Not before the classes begin to be told apart, 6 of 24 epochs here.
        aib_loss=dict(attention_price=0.1, price_begin=1500, price_end=3000)
    ),
)
