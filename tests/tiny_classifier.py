"""A real mmpretrain config that trains in seconds; see ``cifar_files`` for its data."""

custom_imports = dict(imports=['aib_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=32),
    data_preprocessor=dict(
        num_classes=10, mean=[125.0, 123.0, 114.0], std=[52.0, 51.0, 51.0]
    ),
)


def _loader(split, shuffle):
    dataset = dict(
        type='unchecked_cifar.UncheckedCIFAR10',
        data_root='data',
        split=split,
        pipeline=[dict(type='PackInputs')],
    )
    sampler = dict(type='DefaultSampler', shuffle=shuffle)
    return dict(
        batch_size=10,
        num_workers=0,
        persistent_workers=False,  # mim runs mmpretrain's own tool: on unless said
        dataset=dataset,
        sampler=sampler,
    )


train_dataloader = _loader('train', shuffle=True)
val_dataloader = _loader('test', shuffle=False)
test_dataloader = _loader('test', shuffle=False)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = dict(type='Accuracy', topk=(1,))

train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
auto_scale_lr = dict(base_batch_size=10)
randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1),
    visualization=dict(type='VisualizationHook', enable=False),
)
visualizer = dict(
    type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
)
