"""Bad configs of the three tasks: the place, the value and the remedy are named."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from bad_configs import (
    AT_WORK,
    BASES,
    CONFIGS,
    DATASET,
    HOSTS,
    ROWS,
    last_line,
    write,
)
from cifar_files import environment, write_cifar10
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from PIL import Image
from runner_logs import own_loggers

from aib_mm.cli import train as program
from aib_mm.diagnosis.configs import misspelt_setting
from aib_mm.diagnosis.explain import _no_tuples
from aib_mm.errors import describe


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
        pytest.param(
            'model.head.num_classes=2',
            r'^IndexError: Target \d is out of bounds',
            True,
            marks=pytest.mark.slow,
        ),
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
