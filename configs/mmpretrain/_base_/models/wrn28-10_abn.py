"""WRN-ABN: block 3 in the attention branch and, apart, the perception branch."""

_base_ = 'wrn28-10.py'

model = dict(
    backbone=dict(blocks=(1, 2)),
    neck=None,  # the head pools
    head=dict(
        _delete_=True,
        type='ABNHead',
        num_classes=10,
        # Stride 1: the map is as large as the features, 16×16.
        branch=dict(type='WideResNetBlocks', blocks=(3,), first_stride=1),
        body=dict(type='WideResNetBlocks', blocks=(3,)),
    ),
)
