"""UperNet-BEiT on ADE20K at 512x512 without attention, for comparison (Table 6).

The recipe that BEiT published for weights fine-tuned on ImageNet: docs/segmentation.md
has the differences from the paper's.
"""

# As 'mmseg::_base_/…', which OneDL's mmengine does not find.
_base_ = [
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/models/upernet_beit.py',
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/datasets/ade20k.py',
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/default_runtime.py',
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/schedules/schedule_160k.py',
]

custom_imports = dict(imports=['aib_mm'])

crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        img_size=crop_size,
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrain/beit_base_patch16_512_ft22k.pth'
        ),
    ),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)

# 4 GPUs x 2 images x 2 steps: the batch of 16. An iteration is one of the steps, so
# that the 160k updates take 320k.
train_dataloader = dict(batch_size=2)
val_dataloader = dict(batch_size=1)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=320000, val_interval=32000)
default_hooks = dict(checkpoint=dict(interval=32000))

optim_wrapper = dict(
    _delete_=True,  # SGD
    type='OptimWrapper',
    accumulative_counts=2,
    optimizer=dict(type='AdamW', lr=3e-5, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(num_layers=12, decay_rate=0.9, decay_type='layer_wise_vit'),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=3000),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=3000, end=320000),
]
