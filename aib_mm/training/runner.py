"""A Runner of a config, as the programs of this package start it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from aib_mm.errors import UsageError
from aib_mm.training.checkpoint import check_checkpoint
from aib_mm.training.checkpoint_fit import CheckpointFitHook
from aib_mm.training.distributed import prepare_cpu_distributed
from aib_mm.training.random_state import RankSeedHook
from aib_mm.training.toolkits import (
    Drawing,
    Toolkit,
    enable_drawing,
    enable_tta,
    toolkit_of,
)

_FIT_REMEDY = (
    'give the config that it was trained with; python -m aib_mm compare CONFIG '
    'CHECKPOINT lists the keys'
)
_TEST_NEEDS = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')
_METRIC_SUFFIXES = ('.json', '.yaml', '.yml', '.pkl', '.pickle')


@dataclass(frozen=True)
class RunSettings:
    """What a training and a test are told beside their config.

    Attributes:
        work_dir: folder for logs, checkpoints and metrics; None for the config's, or
            one named after the config's file.
        seed: the seed of all random numbers; None for the config's.
        deterministic: whether torch and cuDNN use deterministic algorithms only.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        local_rank: this process's number on its machine, where the environment has
            none.
        amp: whether to use automatic mixed precision.
        pin_memory: False switches it off in the data loaders.
    """

    work_dir: str | None = None
    seed: int | None = None
    deterministic: bool = False
    launcher: str = 'none'
    local_rank: int = 0
    amp: bool = False
    pin_memory: bool = True


def apply_settings(
    cfg: Config, settings: RunSettings, needs: Sequence[str], purpose: str
) -> Toolkit:
    """Write work folder, launcher and random seed into the config.

    Args:
        cfg: a config; changed in place.
        settings: what to write.
        needs: keys that the config must have.
        purpose: what needs them, for the error.

    Raises:
        UsageError: the config is written for no toolkit, or lacks a key.
    """
    toolkit = toolkit_of(cfg)
    for key in needs:
        if cfg.get(key) is None:
            raise UsageError(
                f'config {cfg.filename} has no {key}: {purpose} needs it; set it, or '
                'inherit it by _base_'
            )
    os.environ.setdefault('LOCAL_RANK', str(settings.local_rank))
    cfg.launcher = settings.launcher
    of_config = cfg.get('work_dir') or f'./work_dirs/{Path(cfg.filename).stem}'
    cfg.work_dir = settings.work_dir or of_config
    randomness = dict(cfg.get('randomness') or {})
    if settings.seed is not None:
        randomness['seed'] = settings.seed
    if settings.deterministic:
        randomness['deterministic'] = True
    if randomness:
        cfg.randomness = randomness
    return toolkit


def configure_test(
    cfg: Config,
    checkpoint: str,
    settings: RunSettings,
    *,
    out: str | None = None,
    out_item: str | None = None,
    drawing: Drawing | None = None,
    tta: bool = False,
) -> None:
    """Make a config the one of a test.

    Args:
        cfg: a config; changed in place.
        checkpoint: file or address.
        settings: what every run is told.
        out: path where predictions or metrics are to be written.
        out_item: ``'pred'`` (as None) or ``'metrics'``, what goes there.
        drawing: what is shown or painted; None for nothing.
        tta: whether to augment at test time.

    Raises:
        UsageError: a setting does not fit the config.
        CheckpointError: the checkpoint cannot be used.
    """
    toolkit = apply_settings(cfg, settings, _TEST_NEEDS, 'a test')
    check_checkpoint(checkpoint)
    cfg.load_from = checkpoint
    cfg.resume = False
    if settings.amp:
        cfg.test_cfg.fp16 = True
    if drawing is not None:
        enable_drawing(cfg, drawing)
    if tta:
        enable_tta(cfg)
    if out is None and out_item is not None:
        raise UsageError(f'--out-item {out_item} needs --out FILE')
    if out is not None:
        metrics = out_item == 'metrics'
        allowed = _METRIC_SUFFIXES if metrics else toolkit.out_suffixes
        if allowed and not out.endswith(allowed):  # it would fail after the test
            raise UsageError(f'--out {out} must end in one of {", ".join(allowed)}')
        if not metrics:
            toolkit.save_predictions(cfg, out)
    defaults = dict(toolkit.loader_defaults)
    defaults.pop('persistent_workers', None)  # one pass over the data: nothing gained
    set_loader_options(
        cfg, ['test_dataloader'], defaults=defaults, pin_memory=settings.pin_memory
    )


def set_loader_options(
    cfg: Config,
    fields: Sequence[str],
    *,
    defaults: Mapping[str, Any],
    pin_memory: bool = True,
    persistent_workers: bool = True,
) -> None:
    """Fill in a toolkit's data loader defaults, then switch off what is not wanted."""
    defaults = dict(defaults)
    if 'pin_memory' in defaults:
        # Without a GPU torch ignores it, with a warning for every loader.
        defaults['pin_memory'] = torch.cuda.is_available()
    for field in fields:
        if cfg.get(field) is None:
            continue
        loader = {**defaults, **cfg[field]}
        if not pin_memory:
            loader['pin_memory'] = False
        # torch refuses persistent workers where there are no workers at all.
        if not persistent_workers or not loader.get('num_workers'):
            loader['persistent_workers'] = False
        cfg[field] = loader


def build_runner(cfg: Config, allow_missing: bool = False, advice: str = '') -> Runner:
    """Build the Runner that the config asks for, on gloo where there is no GPU.

    Args:
        cfg: its ``load_from`` is the checkpoint that the Runner will load.
        allow_missing: the checkpoint may lack weights of the model, but not all.
        advice: what else to do about a checkpoint that lacks some.

    Raises:
        UsageError: more processes than GPUs, or no launcher started this process.
        Exception: whatever a part that cannot be built raises.
    """
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    gpus = torch.cuda.device_count()
    if cfg.launcher == 'pytorch' and 0 < gpus < processes:
        raise UsageError(
            f'{processes} processes were started on a machine with {gpus} GPU(s); '
            f'start {gpus}, or set CUDA_VISIBLE_DEVICES=-1 to run on the CPU'
        )
    try:
        prepare_cpu_distributed(cfg, cfg.launcher)
    except RuntimeError as error:
        raise UsageError(str(error)) from error
    custom = 'runner_type' in cfg
    runner = RUNNERS.build(cfg) if custom else Runner.from_cfg(cfg)
    # A config may name mmengine's own hook by its class, or none in its place.
    if not any(isinstance(hook, RankSeedHook) for hook in runner.hooks):
        runner.register_hook(RankSeedHook())
    # A FlexibleRunner's model may be in shards, which no weight's shape fits.
    if cfg.get('load_from') and isinstance(runner, Runner):
        remedy = _FIT_REMEDY + advice
        fit = CheckpointFitHook(str(cfg.load_from), allow_missing, remedy)
        runner.register_hook(fit)
    return runner
