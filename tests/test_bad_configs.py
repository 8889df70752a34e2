"""Bad configs of the three tasks: the place, the value and the remedy are named."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from cifar_files import environment, write_cifar10
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from PIL import Image
from runner_logs import own_loggers

from aib_mm.cli import train as program
from aib_mm.diagnosis.configs import misspelt_setting
from aib_mm.diagnosis.explain import _no_tuples
from aib_mm.errors import describe

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


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    with own_loggers():
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR's files, and COCO's where mmdet is there."""
    folder = tmp_path_factory.mktemp('bad')
    write_cifar10(folder / 'data', train_per_batch=4, test=10)
    return folder


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
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize(('task', 'code', 'place', 'value', 'remedy'), ROWS)
def test_place_value_and_remedy_are_the_last_word(
    task: str,
    code: str,
    place: str,
    value: str,
    remedy: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(HOSTS[task])
    monkeypatch.chdir(data)
    monkeypatch.setenv('LOCAL_RANK', '0')
    if '{data}' in code:
        from coco_files import write_coco

        code = code.replace('{data}', str(write_coco(tmp_path, train=1, val=1)))
    path = write(tmp_path, task, code)
    options = ['--check-data', 'off', '--no-validate', '--work-dir', str(tmp_path)]
    if 'val_evaluator' in code:
        options.remove('--no-validate')
    found = program.main([str(path), *options])
    said = last_line(capsys.readouterr().err)
    assert found in (1, 2)
    assert said.startswith('train.py: error: ')
    assert place in said
    assert re.search(value, said), said
    assert re.search(re.escape(remedy) if '?' in remedy else remedy, said), said


def test_places_are_those_of_the_file(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not of the config that training puts a check of the data into."""
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(data)
    monkeypatch.setenv('LOCAL_RANK', '0')
    code = DATASET.format("pipeline=[dict(type='PackInputs'), dict(type='RandomCrp')]")
    path = write(tmp_path, 'classification', code)
    assert program.main([str(path), '--work-dir', str(tmp_path)]) == 2
    said = last_line(capsys.readouterr().err)
    assert 'train_dataloader.dataset.pipeline.1.type: ' in said


@pytest.mark.parametrize(('code', 'kind', 'message'), AT_WORK)
def test_an_error_at_work_is_the_hosts(
    code: str,
    kind: type[Exception],
    message: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(data)
    monkeypatch.setenv('LOCAL_RANK', '0')
    path = write(tmp_path, 'classification', code)
    with pytest.raises(kind, match=message):
        program.main([str(path), '--no-validate', '--work-dir', str(tmp_path)])


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_missing_images_are_those_of_the_split_that_runs(
    split: str,
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    for name in {'train', 'val', 'test'} - {split}:
        Image.new('RGB', (32, 32)).save(tmp_path / f'{name}.png')
    code = "read = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]\n"
    for name in ('train', 'val', 'test'):
        (tmp_path / f'{name}.txt').write_text(f'{name}.png 1\n' * 10)
        code += (
            f'{name}_dataloader = dict(num_workers={workers}, dataset=dict(_delete_='
            f"True, type='CustomDataset', ann_file='{name}.txt', pipeline=read))\n"
        )
    code += 'train_cfg = dict(max_epochs=1)\n'
    path = write(tmp_path, 'classification', code)
    assert program.main([str(path), '--check-data', 'off']) == 1
    said = capsys.readouterr().err
    assert last_line(said).startswith(
        f'train.py: error: config {path}: {split}_dataloader: FileNotFoundError: '
    )
    assert f'{split}.png' in last_line(said)
    assert 'Traceback' in said


@pytest.mark.parametrize('suffix', ['json', 'yaml'])
@pytest.mark.parametrize(
    ('step', 'shown'),
    [
        (dict(type='RandomCrop', crop_size=(8, 8)), 'RandomCrop(crop_size=[8, 8])'),
        (  # the error does not say what is wanted
            dict(
                type='mmpretrain.BEiTMaskGenerator',
                input_size=(8, 8),
                num_masking_patches=9,
            ),
            "BEiTMaskGenerator() does not build: TypeError: can't multiply",
        ),
    ],
)
def test_lists_that_came_from_json(
    step: dict,
    shown: str,
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip('mmseg')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    cfg = Config.fromfile(BASES['segmentation'])
    cfg.train_dataloader.dataset.pipeline = [step]
    cfg.custom_imports = dict(imports=['mmpretrain.datasets'])
    path = tmp_path / f'{tmp_path.name}.{suffix}'
    cfg.dump(path.with_suffix('.json'))
    # What YAML a person writes; mmengine's own marks its tuples.
    path.with_suffix('.json').rename(path)
    assert program.main([str(path), '--check-data', 'off', '--no-validate']) == 2
    said = last_line(capsys.readouterr().err)
    assert f'train_dataloader.dataset.pipeline.0: {shown}' in said
    advice = f'.{suffix} files have lists where Python has tuples: write the config in'
    assert advice in said


def test_other_errors_of_a_json_file_are_not_for_its_lists() -> None:
    """A part that is refused with tuples too."""
    part = dict(type='mmcv.RandomFlip', prob=[0.5, 0.9], direction='up')
    with pytest.raises(AssertionError) as caught:
        TRANSFORMS.build(part)
    assert _no_tuples(SimpleNamespace(filename='a.json'), describe(caught.value)) == ''


@pytest.mark.parametrize(
    ('option', 'message', 'traceback'),
    [
        ('model.backbone.depth=19', r'model\.backbone\.depth: .*depth=19', False),
        ('model.head.num_classes=2', r'^IndexError: Target \d is out of bounds', True),
    ],
)
def test_a_real_command_ends_with_the_line(
    data: Path, repo: Path, option: str, message: str, traceback: bool
) -> None:
    pytest.importorskip('mmpretrain')
    command = [
        repo / 'tools/train.py',
        BASES['classification'],
        '--cfg-options',
        option,
    ]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=data,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == (1 if traceback else 2)
    assert re.search(message, last_line(done.stderr))
    assert ('Traceback' in done.stderr) is traceback


def test_no_shipped_config_is_taken_for_a_slip() -> None:
    for path in CONFIGS.glob('*/*.py'):
        names = re.findall(r'^(\w+) = ', path.read_text(), re.MULTILINE)
        assert misspelt_setting(Config(dict.fromkeys(names))) is None, path
