"""UperNet-BEiT of the host, narrow and shallow: 1 M parameters, for 128x128 images."""

# As 'mmseg::_base_/models/upernet_beit.py', which OneDL's mmengine does not find.
_base_ = __import__('mmseg').__path__[0] + '/.mim/configs/_base_/models/upernet_beit.py'

norm_cfg = dict(type='BN')

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        img_size=(128, 128),
        patch_size=8,
        embed_dims=96,
        num_layers=4,
        num_heads=3,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0,
        init_values=1.0,  # trained from random weights, and not deep
    ),
    # Patches are half as wide as in the full model, so that 2 is stride 4 here too.
    neck=dict(embed_dim=96, rescales=[2, 1, 0.5, 0.25], norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=[96] * 4, channels=64, num_classes=11, norm_cfg=norm_cfg
    ),
    auxiliary_head=dict(
        in_channels=96, in_index=1, channels=32, num_classes=11, norm_cfg=norm_cfg
    ),
)
