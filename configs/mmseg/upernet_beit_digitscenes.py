"""UperNet-BEiT in full size on DigitScenes, from random weights, for one GPU."""

_base_ = [
    # As 'mmseg::_base_/models/upernet_beit.py', which OneDL's mmengine does not find.
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/models/upernet_beit.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes.py',
    '_base_/schedules/one_cycle_24e.py',
    '_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(256, 256)),
    backbone=dict(img_size=(256, 256)),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
)

# Deep and wide: the narrow model's rate is too high for it.
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = dict(eta_max=1e-4)

train_dataloader = dict(batch_size=16, num_workers=4, persistent_workers=True)
val_dataloader = dict(num_workers=4, persistent_workers=True)
test_dataloader = val_dataloader
