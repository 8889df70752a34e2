"""The paper's schedule for CUB (4.2.2): Adam from 1e-4, 200 epochs, batch 16."""

optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-4))
# The paper calls 1e-4 the initial rate; how it falls is the authors' released code.
param_scheduler = [dict(type='StepLR', by_epoch=True, step_size=2, gamma=0.97)]

train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=16)
