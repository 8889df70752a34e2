"""Every process draws noise of its own, and starts from the same weights."""

import random
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cifar_files import TESTS, write_cifar10
from mmengine.config import Config
from mmengine.hooks import DistSamplerSeedHook
from mmengine.registry import HOOKS, MODELS, DefaultScope
from mmengine.runner import Runner
from tiny_runs import in_two_processes, tiny_config

from aib_mm.training.random_state import RankSeedHook, process_seed
from aib_mm.training.runner import build_runner

STARTS = ('before_train', 'before_val', 'before_test')


def draw() -> tuple[float, ...]:
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture
def as_rank(monkeypatch):
    """Function that lets the hook think it is one of several processes."""

    def be(rank: int, processes: int = 2) -> None:
        module = 'aib_mm.training.random_state'
        monkeypatch.setattr(f'{module}.get_rank', lambda: rank)
        monkeypatch.setattr(f'{module}.get_world_size', lambda: processes)

    return be


@pytest.mark.parametrize('start', STARTS)
def test_processes_draw_apart(start, as_rank) -> None:
    drawn = []
    for rank in (0, 1, 0):
        as_rank(rank)
        getattr(RankSeedHook(), start)(SimpleNamespace(seed=3))
        drawn.append(draw())
    assert drawn[0] == drawn[2], 'a function of seed and rank'
    assert not set(drawn[0]) & set(drawn[1])


def test_seeds_once(as_rank) -> None:
    """A validation or a test in the same Runner goes on with the numbers there are."""
    hook, runner = RankSeedHook(), SimpleNamespace(seed=3)
    as_rank(1)
    drawn = []
    for start in STARTS:
        getattr(hook, start)(runner)
        drawn.append(draw())
    assert len(set(drawn)) == len(STARTS)


def test_one_process_is_left_as_it_is(as_rank) -> None:
    as_rank(0, processes=1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    RankSeedHook().before_train(SimpleNamespace(seed=3))
    assert torch.equal(torch.rand(3), expected)


def test_no_two_processes_workers_or_runs_share_a_seed() -> None:
    """mmengine gives workers ``num_workers · rank + worker + seed``."""
    seeds = [process_seed(seed, rank) for seed in range(8) for rank in range(64)]
    assert len(set(seeds)) == len(seeds)
    assert not set(seeds) & set(range(10_000))
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert process_seed(2**32 - 1, 2**20) < 2**32


def test_every_runner_has_the_hook(tmp_path: Path) -> None:
    """The default one of mmengine, which hosts' configs name too, or built here."""
    hook = HOOKS.build(dict(type='DistSamplerSeedHook'))
    assert isinstance(hook, RankSeedHook) and isinstance(hook, DistSamplerSeedHook)
    cfg = tiny_config('classification', tmp_path)
    cfg.work_dir = str(tmp_path / 'run')
    for given, build, held in (
        ({}, Runner.from_cfg, True),
        (dict(sampler_seed=dict(type='DistSamplerSeedHook')), Runner.from_cfg, True),
        (dict(sampler_seed=None), Runner.from_cfg, False),
        (dict(sampler_seed=None), build_runner, True),
    ):
        one = deepcopy(cfg)
        one.default_hooks.update(given)
        one.launcher, one.experiment_name = 'none', f'{build.__name__}_{id(one)}'
        hooks = build(one).hooks
        assert sum(isinstance(hook, RankSeedHook) for hook in hooks) == held, given


CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['aib_mm', 'recorders'])
randomness = dict(seed=None)
custom_hooks = [dict(type='NoiseRecorder', folder='.')]
model = dict(
    neck=dict({neck}),
    head=dict(
        {head}
        aib_loss=dict(
            type='AIBLoss',
            kl=dict(type='AdversarialKL', latent_dim=8, dropout=0.5),
        ),
    ),
)
"""
REPLACE = dict(neck="modulation='replace'", head='')
NOISE = dict(
    neck="noise=dict(type='AdditiveNoise', std=0.5)",
    head="""
        test_samples=1,
        encoder=dict(_delete_=True, type='NoiseEncoder', in_features=32),
    """,
)


def user_folder(folder: Path, neck: str, head: str) -> Path:
    """A folder with data and a config, which says nothing of seeds or processes."""
    write_cifar10(folder / 'data', train_per_batch=8, test=20)
    base = str(TESTS / 'noisy_classifier.py')
    text = CONFIG.format(base=base, neck=neck, head=head)
    (folder / 'config.py').write_text(text)
    return folder


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """A user's folder after ``tools/dist_train.sh``."""
    pytest.importorskip('mmpretrain')
    folder = user_folder(tmp_path_factory.mktemp('two'), **REPLACE)
    arguments = ['config.py', '2', '--work-dir', 'whole']
    in_two_processes(folder, 'train', *arguments)
    return folder


def check_draws(folder: Path, mode: str, kinds: set[str]) -> None:
    """Every kind of draw was made, and differs between the processes."""
    ranks = [torch.load(folder / f'draws_{mode}_{rank}.pth') for rank in range(2)]
    assert all({kind for kind in draws if draws[kind]} == kinds for draws in ranks)
    for kind in kinds:
        first, second = (torch.cat(tuple(map(torch.flatten, d[kind]))) for d in ranks)
        gaps = (first - second).abs()
        apart = (gaps[~gaps.isnan()] > 0.05).float().mean()
        # Two normal draws are nearer than that in 3 of 100, two coins in half of all.
        assert apart > (0.4 if kind == 'dropout' else 0.9), kind


@pytest.mark.slow
def test_draws_differ_in_training(trained) -> None:
    check_draws(trained, 'train', {'a', 'z', 'replace', 'prior', 'dropout'})


@pytest.mark.slow
def test_draws_differ_at_test(trained) -> None:
    arguments = ['config.py', 'whole/epoch_3.pth', '2', '--work-dir', 'tested']
    in_two_processes(trained, 'test', *arguments)
    check_draws(trained, 'test', {'a', 'z', 'replace'})


@pytest.mark.slow
def test_noise_encoders_draw_apart(tmp_path) -> None:
    pytest.importorskip('mmpretrain')
    folder = user_folder(tmp_path, **NOISE)
    options = ['--no-validate', '--cfg-options', 'train_cfg.max_epochs=1']
    in_two_processes(folder, 'train', 'config.py', '2', *options)
    check_draws(folder, 'train', {'noise', 'prior', 'dropout'})


@pytest.mark.slow
def test_resumed_in_two_processes(trained) -> None:
    """Bit by bit, numbers of both processes too, and no word of another seed."""
    start = ['--resume', 'whole/epoch_1.pth', '--work-dir', 'resumed']
    said = in_two_processes(trained, 'train', 'config.py', '2', *start)
    assert 'random seed' not in said and 'RandomStateHook' not in said
    whole, resumed = (
        torch.load(trained / name / 'epoch_3.pth', weights_only=False)
        for name in ('whole', 'resumed')
    )
    for name, value in whole['state_dict'].items():
        assert torch.equal(value, resumed['state_dict'][name]), name
    for one, other in zip(whole['random_state'], resumed['random_state'], strict=True):
        assert torch.equal(one['torch'], other['torch'])
    first, second = (one['torch'] for one in whole['random_state'])
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_gradients_are_the_average_of_the_halves(trained, monkeypatch) -> None:
    """One process with the noise of the two: the same gradients, half by half."""
    monkeypatch.chdir(trained)
    steps = [torch.load(f'step_{n}.pth', weights_only=False) for n in range(2)]
    for name, value in steps[0]['weights'].items():
        assert torch.equal(value, steps[1]['weights'][name]), 'one start for both'
    assert not torch.equal(steps[0]['state'], steps[1]['state'])
    statistics = [
        {k: v for k, v in step['buffers'].items() if k.startswith('neck.modulations')}
        for step in steps
    ]
    assert statistics[0]
    for name, value in statistics[0].items():
        assert torch.equal(value, statistics[1][name]), 'of the images of both'
    cfg = Config.fromfile('config.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    model.neck.modulations[0].momentum = 0  # it keeps the statistics of both
    halves = [gradients(model, step, statistics[0]) for step in steps]
    for name, found in steps[0]['gradients'].items():
        average = sum(half[name] for half in halves) / len(halves)
        torch.testing.assert_close(found, average, rtol=1e-5, atol=1e-6)
        assert torch.equal(found, steps[1]['gradients'][name])


def gradients(model: torch.nn.Module, step: dict, statistics: dict) -> dict:
    """Gradients of one process alone, on its half of the batch, with its noise."""
    model.load_state_dict({**step['weights'], **statistics})
    model.train().zero_grad()
    torch.set_rng_state(step['state'])
    data = model.data_preprocessor(deepcopy(step['batch']), training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}
