"""The paper's vanilla VGG16 for 32×32 images: all blocks, pooling, one FC layer."""

custom_imports = dict(imports=['aib_mm'])

# The authors' released code: Xavier uniform with gain sqrt(2), BN weight in U(0, 1).
vgg_init = [
    dict(
        type='Xavier', layer=['Conv2d', 'Linear'], gain=2**0.5, distribution='uniform'
    ),
    dict(type='Uniform', layer='BatchNorm2d', a=0.0, b=1.0),
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VGGBlocks', blocks=(1, 2, 3, 4, 5, 6), pointwise=True, init_cfg=vgg_init
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=512, init_cfg=vgg_init),
)
