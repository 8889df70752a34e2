"""UperNet-BEiT-aib on ADE20K (paper, 4.2.4 and Table 6).

One score per visual token, 32x32 of them, at each of the four levels;
L_a = L_z = 1 in training, 2 and 1 at test.
"""

_base_ = 'upernet_beit.py'

model = dict(
    neck=dict(
        _delete_=True,  # it is held by the attention now
        type='AIBAttention',
        in_channels=[768] * 4,
        shared=False,  # tokens of different depth
        train_samples=1,
        test_samples=2,
        post_neck={{_base_.model.neck}},
    ),
    decode_head=dict(
        type='AIBDecodeHead',
        train_samples=1,
        test_samples=1,
        aib_loss=dict(
            type='AIBLoss',
            beta=0.01,
            vq_weight=0.4,
            commit_weight=0.1,
            attention_price=0.0,
        ),
    ),
)

default_hooks = dict(aib_monitor=dict(type='AIBMonitorHook'))
