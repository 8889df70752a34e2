"""The host's runtime; small convolutions are a quarter faster so on a CPU."""

_base_ = 'mmpretrain::_base_/default_runtime.py'

default_hooks = dict(channels_last=dict(type='ChannelsLastHook'))
