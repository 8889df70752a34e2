"""UperNet Swin-T-aib on ADE20K (a newer backbone, as paper 5.2 suggests)."""

# As 'mmseg::swin/…', which OneDL's mmengine does not find.
_base_ = (
    __import__('mmseg').__path__[0] + '/.mim/configs/swin/swin-tiny-patch4-window7-'
    'in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
)

custom_imports = dict(imports=['aib_mm'])

model = dict(
    neck=dict(
        type='AIBAttention',
        in_channels=[96, 192, 384, 768],
        shared=False,  # channels differ
        train_samples=1,
        test_samples=2,
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
