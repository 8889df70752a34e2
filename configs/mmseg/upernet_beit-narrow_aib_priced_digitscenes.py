"""Narrow UperNet-BEiT-aib whose maps pay for what they let through."""

_base_ = 'upernet_beit-narrow_aib_digitscenes.py'

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
            norm_cfg=dict(type='BN'),
        ),
    ),
    decode_head=dict(
        # Not before the classes begin to be told apart, 6 of 24 epochs here.
        aib_loss=dict(attention_price=0.1, price_begin=1500, price_end=3000)
    ),
)
