"""Every full-size recognition config, by its host's Runner, on the true formats."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cifar_files import TESTS, write_cifar10, write_cifar100
from cub_files import write_cub
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from svhn_files import write_svhn

from aib_mm.digitscenes import DigitScenesSpec, generate

pytest.importorskip('mmpretrain')

CONFIGS = TESTS.parent / 'configs/mmpretrain'
UNCHECKED = dict(
    cifar10='unchecked_cifar.UncheckedCIFAR10',
    cifar100='unchecked_cifar.UncheckedCIFAR100',
    svhn='unchecked_sets.UncheckedSVHN',
)


def data_set(config: Path) -> str:
    return config.stem.rpartition('_')[2]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of the sets, a few images in each."""
    root = tmp_path_factory.mktemp('data')
    write_cifar10(root / 'cifar10', train_per_batch=2, test=2)
    write_cifar100(root / 'cifar100', train=4, test=2)
    write_svhn(root / 'svhn', train=4, extra=2, test=2)
    write_cub(root / 'cub', count=4, lossless=False)
    spec = DigitScenesSpec(train=10, test=10)
    generate(root / 'digitscenes', spec, ('classification',))
    return root


@pytest.fixture(autouse=True)
def _unchecked_sets_are_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(TESTS))
    import_modules_from_strings(['unchecked_cifar', 'unchecked_sets'])
    yield


@pytest.mark.slow
@pytest.mark.parametrize(
    'path',
    [
        pytest.param(path, id=path.stem)
        for path in sorted(CONFIGS.glob('*.py'))
        if '-narrow' not in path.stem
    ],
)
def test_one_step_and_one_test_batch(path: Path, data: Path, tmp_path: Path) -> None:
    cfg = Config.fromfile(path)
    name = data_set(path)
    folder = data / name
    if name == 'digitscenes':
        folder = folder / 'classification'
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(folder)
        loader.dataset.type = UNCHECKED.get(name, loader.dataset.type)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
    cfg.param_scheduler = None
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', save_last=False, interval=-1
    )
    cfg.load_from = None
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = f'{path.stem}_full_size'
    runner = Runner.from_cfg(cfg)
    runner.train()
    scalars = runner.message_hub.log_scalars
    assert runner.iter == 1
    loss = scalars['train/loss'].current()
    assert 0 < loss < float('inf')
    # Two images, or ten.
    assert scalars['val/accuracy/top1'].current() % 10 == 0
