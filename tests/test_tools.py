"""tools/train.py and tools/test.py as real commands, and the scripts around them."""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cifar_files import environment, use_files, write_cifar10, write_cifar100
from mmengine.config import Config
from test_aib_classifiers import mim_name

TINY = Path(__file__).with_name('tiny_classifier.py')

needs_mmpretrain = pytest.mark.skipif(
    importlib.util.find_spec('mmpretrain') is None, reason='needs mmpretrain'
)


def call(folder: Path, *command: str | Path, **variables: str):
    """Run a command in a folder outside the repository; its output is one text."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment(PYTHON=sys.executable, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def ok(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 0, result.stdout[-4000:]
    return result.stdout


def metrics_of(work_dir: Path) -> dict:
    """What the Runner wrote about its last test."""
    newest = max(work_dir.glob('2*/2*.json'), key=os.path.getmtime)
    return json.loads(newest.read_text())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder of a user, with data and nothing of the repository."""
    path = tmp_path_factory.mktemp('user')
    write_cifar10(path / 'data')
    return path


@pytest.fixture(scope='module')
def trained(folder, repo):
    """The work folder of ``tools/train.py`` after one epoch."""
    train = repo / 'tools/train.py'
    ok(call(folder, sys.executable, train, TINY, '--work-dir', 'run'))
    return folder / 'run'


@needs_mmpretrain
def test_train_then_test_give_the_same_accuracy(trained, folder, repo):
    assert (trained / 'last_checkpoint').read_text().endswith('run/epoch_1.pth')
    log = next(trained.glob('2*/vis_data/scalars.json')).read_text()
    validated = json.loads(log.splitlines()[-1])['accuracy/top1']
    arguments = [TINY, 'run/epoch_1.pth', '--out', 'metrics.json']
    test = repo / 'tools/test.py'
    command = [sys.executable, test, *arguments, '--out-item', 'metrics']
    ok(call(folder, *command, '--work-dir', 'tested'))
    metrics = json.loads((folder / 'metrics.json').read_text())
    assert metrics['accuracy/top1'] == validated
    assert metrics_of(folder / 'tested')['accuracy/top1'] == validated


@needs_mmpretrain
@pytest.mark.slow
def test_resume_goes_on_and_cfg_options_apply(trained, folder, repo):
    options = ['--cfg-options', 'train_cfg.max_epochs=2', 'val_cfg.fp16=False']
    train = repo / 'tools/train.py'
    arguments = [train, TINY, '--work-dir', 'run', '--resume', *options]
    output = ok(call(folder, sys.executable, *arguments))
    assert 'resumed epoch: 1, iter: 10' in output
    assert 'Epoch(train) [2]' in output and 'Epoch(train) [1]' not in output
    assert (trained / 'epoch_2.pth').is_file()


@needs_mmpretrain
@pytest.mark.slow
def test_predictions_and_pictures(trained, folder, repo):
    arguments = [repo / 'tools/test.py', TINY, 'run/epoch_1.pth', '--out=pred.pkl']
    drawing = ['--show-dir', 'shown', '--interval', '5', '--no-pin-memory']
    ok(call(folder, sys.executable, *arguments, *drawing))
    with (folder / 'pred.pkl').open('rb') as file:
        predictions = pickle.load(file)
    assert len(predictions) == 20
    assert predictions[0]['pred_score'].shape == (10,)
    assert len(list((folder / 'shown').glob('*.png'))) == 4
    ok(call(folder, sys.executable, *arguments, '--tta'))
    with (folder / 'pred.pkl').open('rb') as file:
        flipped = pickle.load(file)
    assert not torch.equal(flipped[0]['pred_score'], predictions[0]['pred_score'])


@needs_mmpretrain
@pytest.mark.slow
def test_two_processes_on_the_cpu(folder, repo):
    variables = dict(CUDA_VISIBLE_DEVICES='-1')
    train = ['bash', repo / 'tools/dist_train.sh', TINY, '2', '--work-dir', 'two']
    output = ok(call(folder, *train, **variables))
    assert '[5/5]' in output, 'each process takes half of the 10 iterations'
    checkpoint = folder / 'two/epoch_1.pth'
    names = torch.load(checkpoint)['state_dict']
    assert not any(name.startswith('module.') for name in names)
    test = ['bash', repo / 'tools/dist_test.sh', TINY, checkpoint, '2']
    output = ok(call(folder, *test, '--work-dir', 'two', **variables))
    alone = [repo / 'tools/test.py', TINY, checkpoint, '--work-dir', 'one']
    ok(call(folder, sys.executable, *alone, **variables))
    accuracy = metrics_of(folder / 'two')['accuracy/top1']
    assert accuracy == metrics_of(folder / 'one')['accuracy/top1']
    resume = [*train, '--resume', folder / 'none.pth']
    failed = call(folder, *resume, **variables)
    assert failed.returncode != 0
    assert 'none.pth does not exist' in failed.stdout


@needs_mmpretrain
@pytest.mark.slow
def test_mim(folder):
    pytest.importorskip('mim')
    mim = [sys.executable, '-m', 'mim']
    common = ['--gpus', '0', '--launcher', 'none', '--work-dir', 'mim']
    package = mim_name('mmpretrain')
    ok(call(folder, *mim, 'train', package, TINY, *common))
    checkpoint = ['--checkpoint', 'mim/epoch_1.pth']
    output = call(folder, *mim, 'test', package, TINY, *checkpoint, *common)
    assert 'accuracy/top1' in ok(output)


@needs_mmpretrain
@pytest.mark.parametrize(
    ('classes', 'write'), [(10, write_cifar10), (100, write_cifar100)]
)
def test_files_have_the_true_format(tmp_path, classes, write):
    from mmpretrain.datasets import CIFAR10, CIFAR100

    write(tmp_path)
    original = {10: CIFAR10, 100: CIFAR100}[classes]
    settings = dict(data_root=str(tmp_path), split='test', pipeline=[], download=False)
    with pytest.raises(RuntimeError, match='Cannot find CIFAR'):
        original(**settings)
    cfg = Config.fromfile(TINY)
    cfg.merge_from_dict(dict(option.split('=') for option in use_files('d', classes)))
    module = importlib.import_module('unchecked_cifar')
    dataset = getattr(module, f'UncheckedCIFAR{classes}')(**settings)
    assert cfg.test_dataloader.dataset.type.endswith(type(dataset).__name__)
    assert len(dataset) == (20 if classes == 10 else 100)
    item = dataset.get_data_info(3)
    assert item['img'].shape == (32, 32, 3) and item['gt_label'] == 3
    assert len(dataset.metainfo['classes']) == classes


def test_error_is_one_line_and_a_failure(tmp_path, repo):
    result = call(tmp_path, sys.executable, repo / 'tools/train.py', 'none.py')
    assert result.returncode == 2
    assert 'train.py: error: config none.py does not exist' in result.stdout
    assert 'Traceback' not in result.stdout


@pytest.mark.parametrize(
    ('script', 'arguments', 'usage'),
    [
        ('dist_train', ['c.py'], 'CONFIG GPUS'),
        ('dist_test', ['c.py', 'a.pth'], 'CONFIG CHECKPOINT GPUS'),
        ('slurm_train', ['p', 'job'], 'PARTITION JOB_NAME CONFIG [WORK_DIR]'),
        ('slurm_test', ['p', 'job', 'c.py'], 'PARTITION JOB_NAME CONFIG CHECKPOINT'),
    ],
)
def test_scripts_print_their_usage(tmp_path, repo, script, arguments, usage):
    result = call(tmp_path, 'bash', repo / f'tools/{script}.sh', *arguments)
    assert result.returncode == 2
    assert result.stdout.startswith('usage: ') and usage in result.stdout


def test_dist_scripts_name_missing_files(tmp_path, repo):
    (tmp_path / 'config.py').touch()
    train = call(tmp_path, 'bash', repo / 'tools/dist_train.sh', 'none.py', '2')
    test = [repo / 'tools/dist_test.sh', 'config.py', 'none.pth', '2']
    test = call(tmp_path, 'bash', *test)
    assert train.returncode == test.returncode == 2
    assert train.stdout.startswith('error: config none.py does not exist')
    assert test.stdout.startswith('error: checkpoint none.pth does not exist')


@pytest.mark.parametrize(
    ('script', 'arguments', 'expected'),
    [
        ('train', ['c.py', 'work', '--amp'], 'c.py --work-dir work --amp'),
        ('train', ['c.py', '--amp'], 'c.py --amp'),
        ('train', ['c.py'], 'c.py'),
        ('test', ['c.py', 'a.pth', '--tta'], 'c.py a.pth --tta'),
    ],
)
def test_slurm_scripts_call_srun(tmp_path, repo, script, arguments, expected):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "srun $@"; echo "port $MASTER_PORT"')
    srun.chmod(0o755)
    variables = dict(
        PATH=f'{tmp_path}{os.pathsep}{os.environ["PATH"]}',
        GPUS='2',
        SRUN_ARGS='--mem 4G --quiet',
    )
    command = ['bash', repo / f'tools/slurm_{script}.sh', 'part', 'job', *arguments]
    output = ok(call(tmp_path, *command, **variables))
    line = next(x for x in output.splitlines() if x.startswith('srun '))
    assert line.startswith('srun -p part --job-name=job --gres=gpu:2 --ntasks=2 ')
    assert '--mem 4G --quiet' in line
    assert line.endswith(f'tools/{script}.py {expected} --launcher slurm')
    assert 20000 <= int(output.split('port ')[-1]) < 30000
    without = ok(call(tmp_path, *command, **variables, GRES=''))
    assert '--gres' not in without
