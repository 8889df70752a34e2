"""UperNet-BEiT-aib in full size on DigitScenes, for one GPU.

From random weights, as upernet_beit_digitscenes.py.
"""

_base_ = [
    # As 'mmseg::_base_/models/upernet_beit.py', which OneDL's mmengine does not find.
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/models/upernet_beit.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_24e.py',
    '_base_/attention_runtime.py',
]

custom_imports = dict(imports=['aib_mm'])

model = dict(
    data_preprocessor=dict(size=(256, 256)),
    backbone=dict(img_size=(256, 256)),
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
        num_classes=11,
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
    auxiliary_head=dict(num_classes=11),
)

# Deep and wide: the narrow model's rate is too high for it.
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = dict(eta_max=1e-4)

train_dataloader = dict(batch_size=16, num_workers=4, persistent_workers=True)
val_dataloader = dict(num_workers=4, persistent_workers=True)
test_dataloader = val_dataloader
