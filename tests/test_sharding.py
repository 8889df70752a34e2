"""``FlexibleRunner``: sharded training, and what it leaves of the safeguards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, MODELS, STRATEGIES, DefaultScope
from tiny_runs import count_iterations, tiny_config
from torch import nn

from aib_mm.errors import UsageError
from aib_mm.training.non_finite import NonFiniteLossHook
from aib_mm.training.random_state import RandomStateHook
from aib_mm.training.sharding import AIBFSDPStrategy, wrap_layers
from aib_mm.training.steady_log import SteadyLogHook
from aib_mm.training.strategies import (
    SAFEGUARDS,
    check_launcher,
    safeguards,
    saves_folders,
)

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs' / 'mmseg'
BASE = CONFIGS / 'upernet_beit_aib_qt.py'
FSDP = CONFIGS / 'upernet_beit_aib_qt_fsdp.py'
DEEPSPEED = CONFIGS / 'upernet_beit_aib_qt_deepspeed.py'
NARROW = CONFIGS / 'upernet_beit-narrow_aib_qt_digitscenes.py'
FLEXIBLE = dict(runner_type='FlexibleRunner')


def test_the_named_layers_are_shards() -> None:
    assert FUNCTIONS.get('wrap_layers') is wrap_layers
    assert STRATEGIES.get('AIBFSDPStrategy') is AIBFSDPStrategy
    conv = nn.Conv2d(1, 1, 1)
    assert wrap_layers(conv, recurse=False, nonwrapped_numel=2, layers=['Conv2d'])
    assert not wrap_layers(conv, recurse=False, nonwrapped_numel=2, layers=['Linear'])
    assert wrap_layers(conv, recurse=True, nonwrapped_numel=2, layers=[])


@pytest.mark.parametrize('path', [FSDP, DEEPSPEED], ids=lambda path: path.stem)
def test_the_configs_keep_model_recipe_and_batch(path: Path) -> None:
    pytest.importorskip('mmseg')
    base, cfg = Config.fromfile(BASE), Config.fromfile(path)
    for key in ('model', 'train_dataloader', 'train_cfg', 'param_scheduler'):
        assert cfg[key] == base[key], key
    for key in ('optimizer', 'constructor', 'paramwise_cfg'):
        assert cfg.optim_wrapper[key] == base.optim_wrapper[key], key
    steps = base.optim_wrapper.accumulative_counts
    found = cfg.strategy.get('gradient_accumulation_steps')
    assert (found or cfg.optim_wrapper.accumulative_counts) == steps


def test_the_shards_of_the_config_are_layers_of_the_model() -> None:
    pytest.importorskip('mmseg')
    layers = Config.fromfile(FSDP).strategy.model_wrapper.auto_wrap_policy.layers
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(Config.fromfile(NARROW).model)
    names = {type(module).__name__ for module in model.modules()}
    assert names.issuperset(layers)
    heads = {type(model.decode_head).__name__, type(model.auxiliary_head).__name__}
    assert not heads.intersection(layers), 'their losses are no forward passes'


@pytest.mark.parametrize(
    ('strategy', 'folders', 'hooks'),
    [
        (dict(type='AIBFSDPStrategy'), False, None),
        (dict(type=AIBFSDPStrategy, state_dict_cfg='local'), True, None),
        (dict(type='FSDPStrategy'), True, None),
        (dict(type='FSDPStrategy', state_dict_cfg='full'), False, None),
        (dict(type='DeepSpeedStrategy'), True, {NonFiniteLossHook, SteadyLogHook}),
        (dict(type='DDPStrategy'), False, None),
        (None, False, None),
    ],
)
def test_safeguards(strategy: dict | None, folders: bool, hooks: set | None) -> None:
    cfg = Config(dict(FLEXIBLE, strategy=strategy))
    assert saves_folders(cfg) is folders
    found = set(safeguards(cfg))
    assert found == (hooks or {RandomStateHook, NonFiniteLossHook, SteadyLogHook})


def test_any_other_runner_has_all_safeguards() -> None:
    for cfg in (Config(), Config(dict(strategy=dict(type='FSDPStrategy')))):
        assert safeguards(cfg) == SAFEGUARDS
        assert not saves_folders(cfg)


@pytest.mark.parametrize('kind', ['AIBFSDPStrategy', 'DeepSpeedStrategy'])
def test_shards_need_processes(kind: str) -> None:
    cfg = Config(dict(FLEXIBLE, strategy=dict(type=kind), launcher='none'))
    with pytest.raises(UsageError, match=rf'{kind} of .* tools/dist_train.sh'):
        check_launcher(cfg)
    cfg.launcher = 'pytorch'
    check_launcher(cfg)
    check_launcher(Config(dict(launcher='none')))


def run(config: Path, work_dir: Path, *options: str) -> str:
    """Train in two processes on the CPU."""
    script = ROOT / 'tools' / 'dist_train.sh'
    command = ['bash', script, config, '2', '--work-dir', work_dir, *options]
    settings = dict(PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1')
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | settings | dict(OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=900,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    return output


@pytest.mark.slow
def test_two_processes_with_shards_train_as_with_copies(tmp_path: Path) -> None:
    """Weights, decay of each weight, and a resumed training: all as without shards."""
    cfg = count_iterations(tiny_config('segmentation', tmp_path), 4, interval=2)
    start = without_noise(cfg, tmp_path)
    cfg.custom_hooks = [dict(type='AIBMonitorHook', interval=1)]
    cfg.optim_wrapper = dict(
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.1),
        constructor='LearningRateDecayOptimizerConstructor',
        paramwise_cfg=dict(num_layers=12, decay_rate=0.9, decay_type='layer_wise_vit'),
    )
    copies, shards = tmp_path / 'copies.py', tmp_path / 'shards.py'
    cfg.dump(copies)
    sharded = Config.fromfile(FSDP)
    cfg.merge_from_dict(dict(FLEXIBLE, strategy=sharded.strategy))
    cfg.dump(shards)

    run(copies, tmp_path / 'a')
    output = run(shards, tmp_path / 'b')
    assert 'a checkpoint is not whole if the process is killed' in output
    half = tmp_path / 'b' / 'iter_2.pth'
    run(shards, tmp_path / 'c', '--resume', str(half))

    plain, whole, resumed = (
        torch.load(tmp_path / name / 'iter_4.pth') for name in 'abc'
    )
    assert plain['state_dict'].keys() == whole['state_dict'].keys()
    for key, value in whole['state_dict'].items():
        assert torch.equal(resumed['state_dict'][key], value), key
        torch.testing.assert_close(
            value, plain['state_dict'][key], atol=1e-4, rtol=1e-3, msg=key
        )
    weight = 'decode_head.conv_seg.weight'
    assert (plain['state_dict'][weight] - start[weight]).abs().max() > 1e-3
    assert decays(whole) == decays(plain)
    assert {decay for decay, *_ in decays(plain).values()} == {0.0, 0.1}


def without_noise(cfg: Config, folder: Path) -> dict[str, torch.Tensor]:
    """Let runners that draw in another order begin and go on alike; the weights."""
    cfg.model.decode_head.update(aib_loss=None, std_shift=100.0, dropout_ratio=0.0)
    cfg.model.auxiliary_head.dropout_ratio = 0.0
    quantizer = dict(type='VQAnchorQuantizer', num_anchors=6)
    cfg.model.neck.update(quantizer=quantizer, std_shift=100.0)
    load, labels, *_, pack = cfg.train_dataloader.dataset.pipeline
    resize = dict(type='Resize', scale=(64, 64), keep_ratio=False)
    cfg.train_dataloader.dataset.pipeline = [load, labels, resize, pack]
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
        model.init_weights()
    cfg.load_from = str(folder / 'start.pth')
    torch.save(dict(state_dict=model.state_dict()), cfg.load_from)
    return {name: value.clone() for name, value in model.state_dict().items()}


def decays(checkpoint: dict) -> dict[str, tuple[float, float, int]]:
    """Decay, rate and number of weights of each group."""
    return {
        group['group_name']: (
            group['weight_decay'],
            group['lr_scale'],
            len(group['params']),
        )
        for group in checkpoint['optimizer']['param_groups']
    }
