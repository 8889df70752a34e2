"""The shipped classifiers through real commands, and in two processes."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cifar_files import environment, use_files, write_cifar10
from ddp_parity import freeze_norms, gradient_parity
from mmengine import load
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from aib_mm import gaussian

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmpretrain'


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command away from the repository; its output, whatever it was."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(PYTHON=sys.executable),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def random_checkpoint(config: Path, path: Path) -> Path:
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.mark.parametrize(
    'name',
    [
        pytest.param('vgg16_aib_cifar10', marks=pytest.mark.slow),
        'vgg16_aib_qt_cifar10',
    ],
)
def test_full_size_models_are_tested_on_cifar_files(
    name: str, tmp_path: Path, repo: Path
) -> None:
    write_cifar10(tmp_path, train_per_batch=2, test=8)
    checkpoint = random_checkpoint(CONFIGS / f'{name}.py', tmp_path / 'random.pth')
    run(
        sys.executable,
        repo / 'tools' / 'test.py',
        CONFIGS / f'{name}.py',
        checkpoint,
        '--out',
        'predictions.pkl',
        '--cfg-options',
        *use_files(tmp_path, 10),
        cwd=tmp_path,
    )
    predictions = load(tmp_path / 'predictions.pkl')
    assert len(predictions) == 8
    for prediction in predictions:
        assert prediction['pred_score'].sum().item() == pytest.approx(1, abs=1e-5)
        assert prediction['attention_mean'].shape == (1, 16, 16)


def batch() -> dict[str, list]:
    """Eight images, as a data loader of mmpretrain would hand them over."""
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=generator)
    samples = [DataSample().set_gt_label(i % 10) for i in range(8)]
    return dict(inputs=list(images.to(torch.uint8)), data_samples=samples)


def with_fixed_noise(model: nn.Module) -> None:
    """Processes draw their own noise; parity is about everything else.

    Every draw is one std above the mean, so that the stds get their gradients too.
    """
    freeze_norms(model)
    gaussian.sample = lambda mean, std, num_samples: (mean + std).unsqueeze(0)
    torch.randn_like = torch.ones_like


@pytest.mark.slow
@pytest.mark.parametrize('quantised', ['', '_qt'])
@pytest.mark.parametrize('adversarial', [False, True])
def test_two_processes_have_the_gradients_of_one(quantised, adversarial) -> None:
    cfg = Config.fromfile(CONFIGS / f'vgg16-narrow_aib{quantised}_digitscenes.py')
    if adversarial:
        kl = dict(type='AdversarialKL', latent_dim=64, dropout=0.0)
        cfg.model.head.aib_loss = dict(type='AIBLoss', kl=kl)
    parity = gradient_parity(cfg, batch, prepare=with_fixed_noise)
    assert parity.gap <= 1e-6 < parity.largest


def mim_name(module: str) -> str:
    """What mim calls a toolkit: its distribution, another one in each family."""
    return importlib.metadata.packages_distributions()[module][0]


def mim(action: str, *arguments: str | Path, cwd: Path) -> str:
    name = mim_name('mmpretrain')
    command = [Path(sys.executable).with_name('mim'), action, name]
    return run(*command, *arguments, '--gpus', '0', '--launcher', 'none', cwd=cwd)


@pytest.mark.slow
def test_mim_trains_and_tests_the_shipped_configs(tmp_path: Path) -> None:
    write_cifar10(tmp_path, train_per_batch=2, test=4)
    config = CONFIGS / 'vgg16_aib_qt_cifar10.py'
    options: list[Any] = ['--cfg-options', *use_files(tmp_path, 10)]
    mim(
        'train',
        config,
        '--work-dir',
        'out',
        *options,
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=5',
        cwd=tmp_path,
    )
    output = mim(
        'test', config, '--checkpoint', 'out/epoch_1.pth', *options, cwd=tmp_path
    )
    assert 'accuracy/top1' in output


@pytest.mark.slow
def test_two_processes_train_on_a_cpu(tmp_path: Path, repo: Path) -> None:
    write_cifar10(tmp_path, train_per_batch=4, test=4)
    run(
        repo / 'tools' / 'dist_train.sh',
        CONFIGS / 'vgg16_aib_qt_cifar10.py',
        2,
        '--work-dir',
        'out',
        '--cfg-options',
        *use_files(tmp_path, 10),
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=5',
        cwd=tmp_path,
    )
    assert (tmp_path / 'out' / 'epoch_1.pth').is_file()
