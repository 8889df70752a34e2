"""The paper's schedule for VGG on CIFAR (4.1.1): SGD, 200 epochs, halved every 25."""

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = [dict(type='StepLR', by_epoch=True, step_size=25, gamma=0.5)]

train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=128)
