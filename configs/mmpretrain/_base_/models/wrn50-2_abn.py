"""WRN-ABN at 224×224: stage 4 in the attention branch and the perception branch."""

custom_imports = dict(imports=['aib_mm'])

stage4 = dict(type='ResNetStage', depth=50, stage=4, base_channels=128, expansion=2)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=50,
        base_channels=128,
        expansion=2,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        # ImageNet's weights take the place of what is drawn here.
        zero_init_residual=False,
    ),
    neck=None,  # the head pools
    head=dict(
        type='ABNHead',
        num_classes=200,
        # Stride 1: the map is as large as the features, 14×14.
        branch=dict(stage4, stride=1),
        body=stage4,
    ),
)
