"""Wrong configs of the three tasks, and the words in which each is to be named."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CONFIGS = TESTS.parent / 'configs'
BASES = {
    'classification': TESTS / 'noisy_classifier.py',
    'detection': CONFIGS / 'mmdet/faster_rcnn_r18-narrow_aib_qt_digitscenes.py',
    'segmentation': CONFIGS / 'mmseg/upernet_beit-narrow_aib_qt_digitscenes.py',
}
HOSTS = dict(classification='mmpretrain', detection='mmdet', segmentation='mmseg')

NECK = 'model = dict(neck=dict({}))'
BACKBONE = 'model = dict(backbone=dict({}))'
HEAD = 'model = dict(head=dict({}))'
DATASET = 'train_dataloader = dict(dataset=dict({}))'
OPTIMIZER = 'optim_wrapper = dict(optimizer=dict({}))'
ROI_HEAD = 'model = dict(roi_head=dict({}))'
DECODE_HEAD = 'model = dict(decode_head=dict({}))'

# What is added to the base, then regular expressions: place, value, remedy.
CLASSIFICATION = [
    (
        NECK.format("type='AIBAttentoin'"),
        'model.neck.type',
        "'AIBAttentoin'",
        "did you mean 'AIBAttention'?",
    ),
    (
        NECK.format('in_chanels=32'),
        'model.neck.in_chanels',
        "no argument 'in_chanels'",
        "did you mean 'in_channels'?",
    ),
    (
        NECK.format("modulation='residul'"),
        'model.neck.modulation',
        "got 'residul'",
        "did you mean 'residual'?",
    ),
    (
        NECK.format("std_source='inputs'"),
        'model.neck.std_source',
        "got 'inputs'",
        "did you mean 'input'?",
    ),
    (
        NECK.format("quantizer=dict(type='VQAnchorQuantizer', num_anchors=0)"),
        'model.neck.quantizer.num_anchors',
        'got 0',
        'must be an integer >= 1',
    ),
    (
        NECK.format("quantizer=dict(type='VQAnchorQuantiser')"),
        'model.neck.quantizer.type',
        "'VQAnchorQuantiser'",
        "did you mean 'VQAnchorQuantizer'?",
    ),
    (
        NECK.format('initial_score=1.5'),
        'model.neck.initial_score',
        'got 1.5',
        r'must be in \(0, 1\)',
    ),
    (NECK.format('std_kernel_size=2'), 'model.neck.std_kernel_size', 'got 2', 'odd'),
    (NECK.format('train_samples=0'), 'model.neck.train_samples', 'got 0', '>= 1'),
    (
        NECK.format('in_channels=[32, 64]'),
        'model.neck.in_channels',
        r'\[32, 64\]',
        'set shared=False',
    ),
    (BACKBONE.format('depth=19'), 'model.backbone.depth', 'depth=19', 'invalid depth'),
    (
        BACKBONE.format("type='ResNetCIFAR'"),
        'model.backbone.type',
        "'ResNetCIFAR'",
        "did you mean 'ResNet_CIFAR'?",
    ),
    (
        BACKBONE.format("init_cfg=dict(type='Pretrained', checkpoint='gone.pth')"),
        'model.backbone.init_cfg.checkpoint',
        r'gone\.pth',
        'can not be found',
    ),
    (
        'model = dict(nek=dict())',
        'model.nek',
        "no argument 'nek'",
        "did you mean 'neck'?",
    ),
    (
        'model = dict(head=None, backbone=None)',
        'model.backbone or head',
        'None is where',
        'a dict',
    ),
    (
        HEAD.format("encoder=dict(_delete_=True, type='NoiseEncoder', in_features=32)"),
        'model.head',
        'NoiseEncoder does not have',
        r"use kl=dict\(type='AdversarialKL'",
    ),
    (
        HEAD.format("aib_loss=dict(type='AIBLoss', beta=-1)"),
        'model.head.aib_loss.beta',
        'got -1',
        'must be finite and >= 0',
    ),
    (
        HEAD.format("aib_loss=dict(kl=dict(type='AdversarialKL', latent_dim=7))"),
        'model.head.aib_loss: ',
        'latent_dim',
        "every part is a dict with a key 'type'",
    ),
    (
        DATASET.format("type='CIFAR_10'"),
        'train_dataloader.dataset.type',
        "'CIFAR_10'",
        "did you mean 'CIFAR10'?",
    ),
    (
        DATASET.format("data_root='no_data', download=False"),
        'train_dataloader.dataset: UncheckedCIFAR10',
        'no_data',
        'you can specify `download=True`',
    ),
    (
        DATASET.format("pipeline=[dict(type='RandomCrp')]"),
        'train_dataloader.dataset.pipeline.0.type',
        "'RandomCrp'",
        "did you mean 'RandomCrop'?",
    ),
    (  # another of the type stands before it
        DATASET.format(
            "pipeline=[dict(type='RandomFlip', prob=0.5), "
            "dict(type='RandomFlip', prob=0.5, direction='up')]"
        ),
        'train_dataloader.dataset.pipeline.1',
        'direction=up',
        'valid_directions',
    ),
    (  # the same in a variable that nothing reads, and in another split
        "flip = dict(type='RandomFlip', probe=0.5)\n"
        'test_dataloader = dict(dataset=dict(pipeline=[flip]))\n'
        'train_dataloader = dict(dataset=dict(pipeline=[flip]))',
        ' train_dataloader.dataset.pipeline.0.probe',
        "no argument 'probe'",
        "did you mean 'prob'?",
    ),
    (
        'train_dataloader = dict(batchsize=4)',
        'train_dataloader.batchsize',
        "no argument 'batchsize'",
        "did you mean 'batch_size'?",
    ),
    (
        OPTIMIZER.format("type='SGDD'"),
        'optim_wrapper.optimizer.type',
        "'SGDD'",
        "did you mean 'SGD'?",
    ),
    (
        OPTIMIZER.format('momentun=0.9'),
        'optim_wrapper.optimizer.momentun',
        "no argument 'momentun'",
        "did you mean 'momentum'?",
    ),
    (
        "param_scheduler = [dict(type='OneCycleLr')]",
        'param_scheduler.0.type',
        "'OneCycleLr'",
        "did you mean 'OneCycleLR'?",
    ),
    (
        "custom_hooks = [dict(type='AIBMonitorHok')]",
        'custom_hooks.0.type',
        "'AIBMonitorHok'",
        "did you mean 'AIBMonitorHook'?",
    ),
    (
        "custom_hooks = [dict(type='AIBMonitorHook', intervall=5)]",
        'custom_hooks.0.intervall',
        "no argument 'intervall'",
        "did you mean 'interval'?",
    ),
    (
        "val_evaluator = dict(type='Acuracy')",
        'val_evaluator.type',
        "'Acuracy'",
        "did you mean 'Accuracy'?",
    ),
    (
        'train_cfg = dict(max_epoch=2)',
        'train_cfg.max_epoch',
        "no argument 'max_epoch'",
        "did you mean 'max_epochs'?",
    ),
    (
        'custom_hook = []',
        'config',
        "sets 'custom_hook'",
        "did you mean 'custom_hooks'?",
    ),
    ("load_form = 'a.pth'", 'config', "sets 'load_form'", "did you mean 'load_from'?"),
    (
        "default_scope = 'mmpretrian'",
        'default_scope',
        "got 'mmpretrian'",
        "must be one of .*'mmpretrain'",
    ),
    (
        "custom_imports = dict(imports=['no_such_library'])",
        'config',
        'no_such_library',
        'repair custom_imports',
    ),
]
# What is built and fails at work: the error of the host, as it is.
AT_WORK = [
    (HEAD.format('num_classes=2'), IndexError, 'Target .* is out of bounds'),
    (
        NECK.format('in_channels=16'),
        ValueError,
        r'in_channels=\[16\].*set in_channels to those of the backbone',
    ),
    (
        HEAD.format('encoder=dict(in_features=16)'),
        RuntimeError,
        'shapes cannot be multiplied',
    ),
]
DETECTION = [
    (
        ROI_HEAD.format("type='GausianRoIHead'"),
        'model.roi_head.type',
        "'GausianRoIHead'",
        "did you mean 'GaussianRoIHead'?",
    ),
    (
        ROI_HEAD.format('bbox_head=dict(num_clases=5)'),
        'model.roi_head.bbox_head.num_clases',
        "no argument 'num_clases'",
        "did you mean 'num_classes'?",
    ),
    (
        "model = dict(rpn_head=dict(anchor_generator=dict(type='AnchorGeneratr')))",
        'model.rpn_head.anchor_generator.type',
        "'AnchorGeneratr'",
        "did you mean 'AnchorGenerator'?",
    ),
    (
        'model = dict(neck=dict(pre_neck=dict(num_outs=2)))',
        'model.neck.pre_neck',
        'num_outs=2',
        'assert',
    ),
    (
        'model = dict(neck=dict(quantizer=dict(num_anchors=2.5)))',
        'model.neck.quantizer.num_anchors',
        'got 2.5',
        'must be an integer >= 1',
    ),
    (
        "train_dataloader = dict(dataset=dict(data_root='{data}', "
        "ann_file='annotations/instances_trian2017.json', _delete_=True, "
        "type='CocoDataset', pipeline=[]))",
        'train_dataloader.dataset.ann_file',
        r'instances_trian2017\.json',
        "did you mean 'instances_train2017.json'?",
    ),
]
SEGMENTATION = [
    (
        DECODE_HEAD.format("type='AIBDecodHead'"),
        'model.decode_head.type',
        "'AIBDecodHead'",
        "did you mean 'AIBDecodeHead'?",
    ),
    (DECODE_HEAD.format('in_index=[0, 1]'), 'model.decode_head', 'in_index', 'assert'),
    (
        DECODE_HEAD.format("loss_decode=dict(type='CrossEntropyLos')"),
        'model.decode_head.loss_decode.type',
        "'CrossEntropyLos'",
        "did you mean 'CrossEntropyLoss'?",
    ),
    (
        'model = dict(neck=dict(map_level=7))',
        'model.neck.map_level',
        'map_level=7',
        'there are 4 levels',
    ),
    (
        DATASET.format("pipeline=[dict(type='LoadAnotations')]"),
        'train_dataloader.dataset.pipeline.0.type',
        "'LoadAnotations'",
        "did you mean 'LoadAnnotations'?",
    ),
]
ROWS = [
    pytest.param(task, *row, id=f'{task}-{number}')
    for task, rows in (
        ('classification', CLASSIFICATION),
        ('detection', DETECTION),
        ('segmentation', SEGMENTATION),
    )
    for number, row in enumerate(rows)
]  # fmt: skip


def write(folder: Path, task: str, code: str) -> Path:
    """A config on the task's base, its data in ``folder/data``."""
    head = f'_base_ = [{str(BASES[task])!r}]\n'
    if task == 'classification' and 'data_root' not in code:
        code += '\n' + DATASET.format('') if 'train_dataloader' not in code else ''
    # mmengine names a run by its file and the second, and keeps one scope a name.
    path = folder / f'{folder.name}.py'
    path.write_text(head + code + '\n')
    return path


def last_line(text: str) -> str:
    """The last line of what a command said."""
    return text.strip().splitlines()[-1]
