"""UperNet-BEiT of the host, narrow and shallow: 0.5 M parameters, for 64x64 images."""

# As 'mmseg::_base_/models/upernet_beit.py', which OneDL's mmengine does not find.
_base_ = __import__('mmseg').__path__[0] + '/.mim/configs/_base_/models/upernet_beit.py'

norm_cfg = dict(type='BN')
# Digits are 5 % of the pixels: without weights the classes wait long on a plateau. The
# mean weight of a pixel is about 1. The Runner reduces the loss: the host's own mean
# fails where pixels are ignored and classes have weights.
class_weight = [0.5] + [10.0] * 10

model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(
        img_size=(64, 64),
        patch_size=4,
        embed_dims=64,
        num_layers=4,
        num_heads=4,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0,
        init_values=1.0,  # trained from random weights, and not deep
    ),
    # Patches are a quarter of the full model's, so that twice is fine enough.
    neck=dict(embed_dim=64, rescales=[2, 1, 0.5, 0.25], norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=[64] * 4,
        channels=48,
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=dict(reduction='none', class_weight=class_weight),
    ),
    auxiliary_head=dict(
        in_channels=64,
        in_index=1,
        channels=32,
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=dict(reduction='none', class_weight=class_weight),
    ),
)
