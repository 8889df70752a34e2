"""The narrow VGG-aib with a price on its map: what is not attended to becomes noise."""

_base_ = 'vgg16-narrow_aib.py'

model = dict(
    neck=dict(
        in_channels=[32],  # one level, and so statistics of one
        modulation='replace',
        # Block 4 without its pool: a score sees what surrounds its position.
        mean_branch=dict(type='VGGBlocks', blocks=(4,), width=1 / 8, out_blocks=(4,)),
    ),
    head=dict(
        aib_loss=dict(
            attention_price=0.1,
            # Not before the classes begin to be told apart, 4 of 16 epochs here.
            price_begin=500,
            price_end=1000,
        )
    ),
)
