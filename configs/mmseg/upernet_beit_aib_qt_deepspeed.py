"""UperNet-BEiT-aib-qt with gradients and optimizer state in shards (DeepSpeed, ZeRO 2).

The recipe and the batch are those of the base. Needs ``pip install deepspeed``.
"""

_base_ = 'upernet_beit_aib.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))

runner_type = 'FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    zero_optimization=dict(stage=2),
    gradient_accumulation_steps=2,
)

optim_wrapper = dict(
    _delete_=True,  # DeepSpeed accumulates itself
    type='DeepSpeedOptimWrapper',
    optimizer={{_base_.optim_wrapper.optimizer}},
    constructor={{_base_.optim_wrapper.constructor}},
    paramwise_cfg={{_base_.optim_wrapper.paramwise_cfg}},
)
