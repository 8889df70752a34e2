"""UperNet with a ViT-B/16 pretrained by DINO on ADE20K (the first row of Table 6)."""

_base_ = 'upernet_beit.py'

model = dict(
    backbone=dict(
        _delete_=True,  # BEiT
        type='VisionTransformer',
        img_size=(512, 512),
        patch_size=16,
        embed_dims=768,
        num_layers=12,
        num_heads=12,
        out_indices=(3, 5, 7, 11),
        drop_path_rate=0.1,
        norm_cfg=dict(type='LN', eps=1e-6),
        interpolate_mode='bicubic',
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrain/dino_vitbase16_pretrain.pth'
        ),
    ),
)

optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.01),  # the host's for ViT
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,  # the host's layer-wise decay does not know this backbone
        custom_keys={
            'pos_embed': dict(decay_mult=0.0),
            'cls_token': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        },
    ),
)
