"""A trained VGG16, given a map that pays for what it lets through, in 4 epochs.

``--load-from CHECKPOINT`` names the trained network's weights.
"""

_base_ = [
    '_base_/models/vgg16-narrow_aib_priced.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_priced.py',
    '_base_/schedules/one_cycle_4e.py',
    '_base_/cpu_attention_runtime.py',
]

model = dict(
    neck=dict(initial_score=0.95),  # nearly all passes: the network is what it was
    # From the first iteration on, and high: what the features tell is learnt already.
    head=dict(aib_loss=dict(attention_price=0.6, price_begin=0, price_end=250)),
)
