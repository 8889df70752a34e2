"""WRN-aib for CUB (paper, Table 4): stage 4 in the attention module and the encoder."""

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
    neck=dict(
        type='AIBAttention',
        in_channels=1024,
        std_kernel_size=3,
        # Stride 1: the map is as large as the features, 14×14.
        mean_branch=dict(stage4, stride=1),
        train_samples=1,
        test_samples=4,
    ),
    head=dict(
        type='AIBClsHead',
        num_classes=200,
        encoder=dict(type='GaussianEncoder', body=stage4),
        train_samples=1,
        test_samples=4,
        aib_loss=dict(
            type='AIBLoss',
            beta=0.01,
            vq_weight=0.4,
            commit_weight=0.1,
            attention_price=0.0,
        ),
    ),
)
