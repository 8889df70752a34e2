"""Resumed trainings go on with the random numbers where they stopped."""

import random
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cifar_files import TESTS, write_cifar10
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.runner import CheckpointLoader, Runner
from tiny_runs import (
    Run,
    count_epochs,
    count_iterations,
    results_of_two,
    tiny_config,
    train,
)
from torch import serialization

from aib_mm.cli.train import main
from aib_mm.training.checkpoint import allow_mmengine_checkpoints
from aib_mm.training.random_state import random_state, set_random_state


@pytest.fixture(autouse=True, scope='module')
def short_waits() -> Iterator[None]:
    """The garbage collector waits so long, not 5 s, for each worker of old runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.2)
        yield


def draw() -> tuple:
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.standard_normal(),
        torch.rand(1).item(),
    )


def test_every_generator_goes_on_where_it_was(tmp_path: Path) -> None:
    for _ in range(3):  # an odd number: Gaussians are drawn in pairs
        draw()
    torch.save(random_state(), tmp_path / 'state.pth')
    expected = [draw() for _ in range(3)]
    set_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert [draw() for _ in range(3)] == expected
    assert draw() not in expected


HOOK = [dict(type='RandomStateHook')]
TASKS_SLOWLY = [
    'classification',
    pytest.param('detection', marks=pytest.mark.slow),
    pytest.param('segmentation', marks=pytest.mark.slow),
]


def resume(cfg: Config, work_dir: Path, checkpoint: Path, hooks: list = HOOK) -> Run:
    return train(cfg, work_dir, hooks, load_from=str(checkpoint), resume=True)


def warning_of(work_dir: Path) -> str:
    """The hook's only line in the log, or nothing."""
    (log,) = work_dir.glob('*/*.log')
    lines = [line for line in log.read_text().splitlines() if 'RandomState' in line]
    assert len(lines) <= 1
    return ''.join(lines)


def check_resumed(cfg: Config, folder: Path, checkpoint: str, shorter: Config) -> None:
    """The next 20 losses and the weights, and that all is otherwise without the hook.

    Args:
        cfg: of a training of 20 iterations and more after ``checkpoint``.
        shorter: the same, of some iterations less.
    """
    whole = train(cfg, folder / 'whole', HOOK)
    path = folder / 'whole' / checkpoint
    resumed = resume(cfg, folder / 'resumed', path)
    assert len(resumed.losses) >= 20
    assert resumed.losses == whole.losses[-len(resumed.losses) :]
    assert resumed.same_weights(whole)
    assert warning_of(folder / 'resumed') == ''
    without = resume(shorter, folder / 'without', path, hooks=[])
    start = len(whole.losses) - len(resumed.losses)
    assert without.losses != whole.losses[start:][: len(without.losses)]


@pytest.mark.parametrize('task', TASKS_SLOWLY)
def test_resumed_after_an_epoch(task: str, tmp_path: Path) -> None:
    cfg = tiny_config(task, tmp_path, validate=task == 'classification')
    epochs = 5 if task == 'classification' else 8  # of 5 and 3 iterations
    whole, shorter = (count_epochs(deepcopy(cfg), count) for count in (epochs, 2))
    if task == 'classification':
        # The best checkpoint is the reason to write the last one again in validation.
        whole.default_hooks.checkpoint.save_best = 'auto'
    check_resumed(whole, tmp_path, 'epoch_1.pth', shorter)


def test_validation_leaves_no_trace(tmp_path: Path) -> None:
    runs = []
    for validate in (True, False):
        folder = tmp_path / str(validate)
        cfg = count_epochs(tiny_config('classification', folder, validate), 2)
        runs.append(train(cfg, folder / 'run', HOOK))
    assert runs[0].same_weights(runs[1])


@pytest.mark.parametrize('task', TASKS_SLOWLY)
def test_resumed_within_an_epoch(task: str, tmp_path: Path) -> None:
    cfg = tiny_config(task, tmp_path)
    whole, shorter = (
        count_iterations(deepcopy(cfg), count, interval=7) for count in (27, 9)
    )
    check_resumed(whole, tmp_path, 'iter_7.pth', shorter)


def with_workers(cfg: Config, **settings: Any) -> Config:
    cfg.train_dataloader.update(num_workers=2, **settings)
    return cfg


@pytest.mark.parametrize(
    'worker_seeds', [None, pytest.param('torch_worker_seeds', marks=pytest.mark.slow)]
)
def test_worker_processes_of_an_epoch(worker_seeds: str, tmp_path: Path) -> None:
    cfg = with_workers(count_epochs(tiny_config('classification', tmp_path), 3))
    if worker_seeds:
        cfg.train_dataloader.worker_init_fn = dict(type=worker_seeds)
    whole = train(cfg, tmp_path / 'whole', HOOK)
    resumed = resume(cfg, tmp_path / 'resumed', tmp_path / 'whole/epoch_1.pth')
    assert resumed.losses == whole.losses[5:]
    assert resumed.same_weights(whole)
    assert warning_of(tmp_path / 'resumed') == ''


def test_torch_worker_seeds_differ_from_epoch_to_epoch() -> None:
    def epochs(**settings: Any) -> list[list[tuple]]:
        loader = Runner.build_dataloader(
            dict(
                batch_size=1,
                num_workers=1,
                dataset=list(range(2)),
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type=drawn_by_worker),
                **settings,
            ),
            seed=0,
        )
        return [list(loader) for _ in range(2)]

    first, second = epochs()
    assert first == second, 'mmengine gives workers the same seeds in each epoch'
    first, second = epochs(worker_init_fn=dict(type='torch_worker_seeds'))
    drawn = [number for batch in first + second for number in batch]
    assert len(set(drawn)) == len(drawn)


def drawn_by_worker(batch: list) -> tuple:
    return draw()


def test_persistent_workers_are_warned_of_once(tmp_path: Path) -> None:
    cfg = count_epochs(tiny_config('classification', tmp_path), 2)
    train(with_workers(cfg, persistent_workers=True), tmp_path / 'run', HOOK)
    assert 'persistent_workers=True no checkpoint knows' in warning_of(tmp_path / 'run')
    resume(cfg, tmp_path / 'resumed', tmp_path / 'run/epoch_1.pth')
    assert 'with False they are exact' in warning_of(tmp_path / 'resumed')


def test_worker_processes_within_an_epoch(tmp_path: Path) -> None:
    """Exact where mmengine loads the seen batches again, said where it does not."""
    cfg = count_iterations(tiny_config('classification', tmp_path), 12, interval=7)
    whole = train(with_workers(cfg), tmp_path / 'whole', HOOK)
    resumed = resume(cfg, tmp_path / 'resumed', tmp_path / 'whole/iter_7.pth')
    if hasattr(InfiniteSampler, 'skip'):
        assert 'with num_workers=2 this mmengine' in warning_of(tmp_path / 'resumed')
    else:
        assert resumed.losses == whole.losses[7:]
        assert warning_of(tmp_path / 'resumed') == ''


@pytest.fixture(scope='module')
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A config of two epochs, and the checkpoint of the first."""
    folder = tmp_path_factory.mktemp('saved')
    cfg = count_epochs(tiny_config('classification', folder), 1)
    train(cfg, folder / 'run', HOOK)
    return count_epochs(cfg, 2), folder / 'run' / 'epoch_1.pth'


def test_a_checkpoint_to_start_from_does_not_set_the_generators(
    saved: tuple[Config, Path], tmp_path: Path
) -> None:
    cfg = count_epochs(deepcopy(saved[0]), 1)
    runs = []
    for seed in (1, 2):
        cfg.randomness.seed = seed
        folder = tmp_path / str(seed)
        runs.append(train(cfg, folder, HOOK, load_from=str(saved[1])))
        assert warning_of(folder) == ''
    assert runs[0].losses != runs[1].losses


def test_the_state_is_plain_for_the_safe_loader(saved: tuple[Config, Path]) -> None:
    content = CheckpointLoader.load_checkpoint(str(saved[1]))
    torch.save(dict(random_state=content['random_state']), saved[1].with_name('r.pth'))
    with serialization.safe_globals([]):
        serialization.clear_safe_globals()
        (state,) = torch.load(saved[1].with_name('r.pth'), weights_only=True).values()
    allow_mmengine_checkpoints()
    assert [set(one) for one in state] == [{'python', 'numpy', 'torch', 'loader'}]


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda c: c.pop('random_state'), 'holds no random state'),
        (
            lambda c: c.update(random_state=c['random_state'] * 2),
            r'states of 2 process\(es\), now there are 1',
        ),
        (lambda c: c['meta'].update(seed=7), r'has seed 7, the data loader 0 \(set '),
        (lambda c: c['meta'].update(iter=3), '3 batches into an epoch'),
    ],
    ids=['without', 'processes', 'seed', 'mid-epoch'],
)
def test_what_cannot_be_kept_is_said(
    change: Any, said: str, saved: tuple[Config, Path], tmp_path: Path
) -> None:
    checkpoint = torch.load(saved[1], weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / 'changed.pth')
    resume(saved[0], tmp_path / 'run', tmp_path / 'changed.pth')
    assert re.search(said, warning_of(tmp_path / 'run'))


def test_the_program_keeps_states_and_takes_the_seed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a seed in the config, as most have it, and without hooks."""
    write_cifar10(tmp_path / 'data', train_per_batch=4, test=10)
    monkeypatch.chdir(tmp_path)
    config = [str(TESTS / 'noisy_classifier.py'), '--no-validate']
    options = ['--cfg-options', 'randomness.seed=None', 'train_cfg.max_epochs=2']

    def weights(work_dir: str, *start: str) -> dict[str, torch.Tensor]:
        assert main([*config, '--work-dir', work_dir, *start, *options]) == 0
        path = str(tmp_path / work_dir / 'epoch_2.pth')
        return CheckpointLoader.load_checkpoint(path)['state_dict']

    whole = weights('whole')
    resumed = weights('resumed', '--resume', 'whole/epoch_1.pth')
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    shown = (tmp_path / 'resumed/noisy_classifier.py').read_text()
    assert 'CheckSample' in shown and 'RandomStateHook' not in shown


@pytest.mark.parametrize('task', TASKS_SLOWLY)
def test_same_seed_same_losses(task: str, tmp_path: Path) -> None:
    cfg = count_iterations(tiny_config(task, tmp_path), 50, interval=50)
    runs = []
    try:
        for name, seed in (('a', 0), ('b', 0), ('other', 1)):
            cfg.randomness = dict(seed=seed, deterministic=True)
            runs.append(train(cfg, tmp_path / name).losses)
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(runs[0]) == 50
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.slow
@pytest.mark.parametrize('by', ['epoch', 'iter'])
def test_every_process_goes_on_with_its_own_numbers(by: str, tmp_path: Path) -> None:
    cfg = tiny_config('classification', tmp_path)
    cfg.train_dataloader.batch_size = 2
    if by == 'epoch':
        cfg, checkpoint = count_epochs(cfg, 5), 'epoch_1.pth'
    else:
        cfg, checkpoint = count_iterations(cfg, 27, interval=7), 'iter_7.pth'
    whole = results_of_two(cfg, tmp_path / 'whole')
    start = ['--resume', tmp_path / 'whole' / checkpoint]
    resumed = results_of_two(cfg, tmp_path / 'resumed', *start)
    for before, after in zip(whole, resumed, strict=True):
        assert len(after['losses']) == 20
        assert after['losses'] == before['losses'][-20:]
        weights = after['parameters']
        assert all(torch.equal(before['parameters'][n], weights[n]) for n in weights)
    assert whole[0]['losses'] != whole[1]['losses']
