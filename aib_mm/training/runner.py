"""A Runner of a config, as the programs of this package start it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from aib_mm.errors import UsageError
from aib_mm.training.checkpoint_fit import CheckpointFitHook
from aib_mm.training.distributed import prepare_cpu_distributed

_FIT_REMEDY = (
    'give the config that it was trained with; python -m aib_mm compare CONFIG '
    'CHECKPOINT lists the keys'
)


def set_loader_options(
    cfg: Config,
    fields: Sequence[str],
    *,
    defaults: Mapping[str, Any],
    no_pin_memory: bool = False,
    no_persistent_workers: bool = False,
) -> None:
    """Fill in a toolkit's data loader defaults, then apply the ``--no-…`` flags."""
    defaults = dict(defaults)
    if 'pin_memory' in defaults:
        # Without a GPU torch ignores it, with a warning for every loader.
        defaults['pin_memory'] = torch.cuda.is_available()
    for field in fields:
        if cfg.get(field) is None:
            continue
        loader = {**defaults, **cfg[field]}
        if no_pin_memory:
            loader['pin_memory'] = False
        # torch refuses persistent workers where there are no workers at all.
        if no_persistent_workers or not loader.get('num_workers'):
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
    # A FlexibleRunner's model may be in shards, which no weight's shape fits.
    if cfg.get('load_from') and isinstance(runner, Runner):
        remedy = _FIT_REMEDY + advice
        fit = CheckpointFitHook(str(cfg.load_from), allow_missing, remedy)
        runner.register_hook(fit)
    return runner
