"""The host's runtime, with the attention in the log and in the data samples."""

_base_ = 'mmpretrain::_base_/default_runtime.py'

default_hooks = dict(
    aib_monitor=dict(type='AIBMonitorHook'),
    attention_fields=dict(type='AttentionFieldsHook', level=-1),  # the last
)
