"""Full-size VGG16-aib whose map pays for what it lets through, for a GPU."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_priced.py',
    '_base_/schedules/one_cycle_15e.py',
    '_base_/attention_runtime.py',
]

model = dict(
    neck=dict(
        in_channels=[256],  # one level, and so statistics of one
        modulation='replace',
        # Block 4 without its pool: a score sees what surrounds its position.
        mean_branch=dict(type='VGGBlocks', blocks=(4,), out_blocks=(4,)),
    ),
    # Not before the classes begin to be told apart.
    head=dict(aib_loss=dict(attention_price=0.1, price_begin=500, price_end=1000)),
)
