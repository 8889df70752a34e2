"""``cpu_runtime.py``, with the attention in the log and in the data samples."""

_base_ = 'mmpretrain::_base_/default_runtime.py'

default_hooks = dict(
    channels_last=dict(type='ChannelsLastHook'),
    aib_monitor=dict(type='AIBMonitorHook'),
    attention_fields=dict(type='AttentionFieldsHook', level=-1),  # the last
)
