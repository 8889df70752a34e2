"""The paper's optimizer with one cycle over 15 epochs: short, for small data."""

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    # Decay would pull an anchor that no position picks to 0.
    paramwise_cfg=dict(custom_keys={'quantizer.anchors': dict(decay_mult=0.0)}),
)
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.05,
    total_steps=15,
    by_epoch=True,
    convert_to_iter_based=True,
)

train_cfg = dict(by_epoch=True, max_epochs=15, val_interval=15)
val_cfg = dict()
test_cfg = dict()
