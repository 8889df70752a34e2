"""The host's runtime, for training by epochs, with the attention in log and samples."""

# As 'mmseg::_base_/default_runtime.py', which OneDL's mmengine does not find.
_base_ = __import__('mmseg').__path__[0] + '/.mim/configs/_base_/default_runtime.py'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=25),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    aib_monitor=dict(type='AIBMonitorHook', interval=25),
    attention_fields=dict(type='AttentionFieldsHook'),
)
log_processor = dict(by_epoch=True)
