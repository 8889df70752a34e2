"""UperNet-BEiT-aib-qt with weights, gradients and optimizer state in shards (FSDP).

The recipe and the batch are those of the base; so is what a checkpoint holds.
"""

_base_ = 'upernet_beit_aib.py'

model = dict(neck=dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=20)))

runner_type = 'FlexibleRunner'
strategy = dict(
    type='AIBFSDPStrategy',
    model_wrapper=dict(
        type='MMFullyShardedDataParallel',
        auto_wrap_policy=dict(
            type='wrap_layers', layers=['BEiTTransformerEncoderLayer', 'ConvModule']
        ),
    ),
)
