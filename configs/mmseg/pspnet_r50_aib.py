"""PSPNet-R50-aib on ADE20K: the same latent in another head."""

# As 'mmseg::pspnet/…', which OneDL's mmengine does not find.
_base_ = (
    __import__('mmseg').__path__[0]
    + '/.mim/configs/pspnet/pspnet_r50-d8_4xb4-160k_ade20k-512x512.py'
)

custom_imports = dict(imports=['aib_mm'])

model = dict(
    backbone=dict(out_indices=(2, 3)),  # attend to the levels that the heads read
    neck=dict(
        type='AIBAttention',
        in_channels=[1024, 2048],
        shared=False,  # channels differ
        train_samples=1,
        test_samples=2,
    ),
    decode_head=dict(
        type='AIBPSPHead',
        in_index=1,
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
    auxiliary_head=dict(in_index=0),
)

default_hooks = dict(aib_monitor=dict(type='AIBMonitorHook'))
