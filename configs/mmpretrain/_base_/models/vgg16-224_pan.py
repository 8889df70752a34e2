"""VGG-PAN at 224×224: the host's VGG16 cut behind blocks 3 and 4 (Seo et al.).

The maps are 56×56, 28×28 and 14×14.
"""

custom_imports = dict(imports=['aib_mm'])

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VGG',
        depth=16,
        num_stages=3,
        dilations=(1, 1, 1),
        out_indices=(2,),
        with_last_pool=False,
    ),
    neck=dict(
        type='ProgressiveAttention',
        in_channels=256,
        stages=[
            dict(type='VGGStage', depth=16, stage=4),
            dict(type='VGGStage', depth=16, stage=5),
        ],
    ),
    head=dict(type='LinearClsHead', num_classes=200, in_channels=512),
)
