"""The start of a training: its config as the program's options ask for it."""

import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from aib_mm.errors import UsageError
from aib_mm.training.checkpoint import (
    POINTER,
    RESUME_KEYS,
    check_checkpoint,
    latest_checkpoint,
)
from aib_mm.training.damaged_data import check_coco
from aib_mm.training.runner import (
    RunSettings,
    apply_settings,
    build_runner,
    set_loader_options,
)
from aib_mm.training.strategies import check_launcher, safeguards, saves_folders
from aib_mm.utils.configs import innermost_datasets, type_name

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_NEEDED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')


def configure_training(
    cfg: Config,
    settings: RunSettings,
    *,
    resume: str | None = None,
    validate: bool = True,
    scale_lr: bool = False,
    persistent_workers: bool = True,
    check_data: str | None = 'stop',
) -> None:
    """Make a config the one of a training.

    Args:
        cfg: a config; changed in place.
        settings: what every run is told.
        resume: the checkpoint to go on from, or ``'auto'`` for the latest one of the
            work folder, if there is one; None for a new training.
        validate: whether to evaluate during training.
        scale_lr: whether to scale the learning rate by the real over the base batch
            size.
        persistent_workers: False switches them off in the data loaders.
        check_data: what to do at a damaged image or annotation, ``'stop'`` or
            ``'skip'``; None checks none.

    Raises:
        UsageError: a setting does not fit the config or the machine.
        CheckpointError: ``resume`` or ``load_from`` names an unusable checkpoint.
        DataError: an annotation file is damaged, with ``check_data='stop'``.
    """
    toolkit = apply_settings(cfg, settings, _NEEDED, 'training')
    check_launcher(cfg)
    if not validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if settings.amp:
        _enable_amp(cfg)
    if scale_lr:
        _enable_lr_scaling(cfg)
    _set_start(cfg, resume)
    set_loader_options(
        cfg,
        LOADERS,
        defaults=toolkit.loader_defaults,
        pin_memory=settings.pin_memory,
        persistent_workers=persistent_workers,
    )
    if check_data is not None:
        check_training_data(cfg, check_data)


def train_config(cfg: Config) -> None:
    """Train as a config says, with this package's safeguards.

    Args:
        cfg: config of a training, as ``configure_training`` leaves it.
    """
    # Weights of another model are a usual start; to resume, all are needed.
    runner = build_runner(cfg, allow_missing=not cfg.get('resume'))
    # Not in the config: the toolkits' own tools read the one in the work folder.
    for kind in safeguards(cfg):
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())
    runner.train()


def _enable_amp(cfg: Config) -> None:
    if get_device() == 'cpu':
        raise UsageError(
            '--amp: mixed-precision training needs a GPU and none is visible; '
            'leave --amp out'
        )
    wrapper = cfg.optim_wrapper
    kind = type_name(wrapper) or 'OptimWrapper'
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UsageError(
            f'--amp needs optim_wrapper.type OptimWrapper, config {cfg.filename} has '
            f'{kind!r}'
        )
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')


def _enable_lr_scaling(cfg: Config) -> None:
    scaling: Any = cfg.get('auto_scale_lr') or {}
    if 'base_batch_size' not in scaling:
        raise UsageError(
            f'--auto-scale-lr needs auto_scale_lr.base_batch_size, which config '
            f'{cfg.filename} does not have; pass --cfg-options '
            f'auto_scale_lr.base_batch_size=N, the batch size the learning rate is for'
        )
    scaling.enable = True


def check_training_data(cfg: Config, on_damage: str) -> None:
    """Check annotation files now, and the files of each sample when it is loaded."""
    check = dict(type='CheckSample', on_damage=on_damage)
    for dataset in innermost_datasets(cfg.get('train_dataloader')):
        pipeline = dataset.get('pipeline')
        # Images that a backend fetches are its own to check.
        if not pipeline or pipeline[0].get('backend_args'):
            continue
        annotations = str(dataset.get('ann_file') or '')
        if annotations.endswith('.json') and os.environ.get('RANK', '0') == '0':
            check_coco(Path(dataset.get('data_root') or '', annotations), on_damage)
        dataset['pipeline'] = [check, *pipeline]
    # For the toolkits' own tools, which read the config in the work folder.
    imports = dict(cfg.get('custom_imports') or {})
    imports['imports'] = list(dict.fromkeys([*imports.get('imports', []), 'aib_mm']))
    cfg.custom_imports = imports


def _set_start(cfg: Config, resume: str | None) -> None:
    """Decide between a checkpoint to resume, one to start from, and neither."""
    if resume is not None and saves_folders(cfg):
        cfg.resume = True
        cfg.load_from = None if resume == 'auto' else resume
        return
    if resume == 'auto':
        latest = latest_checkpoint(cfg.work_dir)
        pointer = Path(cfg.work_dir, POINTER)
        if latest is None and pointer.is_file():
            raise UsageError(
                f'{pointer} names a checkpoint, and {cfg.work_dir} has none that can '
                'be read: put it back, or remove that file to start anew'
            )
        # Without one, load_from stays: a first run may well start from a checkpoint.
        cfg.resume = latest is not None
        cfg.load_from = latest or cfg.get('load_from')
    elif resume is not None:
        cfg.resume = True
        cfg.load_from = resume
    if not cfg.get('load_from'):
        return
    keys = RESUME_KEYS if cfg.get('resume') else ()
    checkpoint = check_checkpoint(cfg.load_from, keys)
    if cfg.get('resume') and checkpoint is not None:
        # mmengine takes it over when the data loader has been built with another one.
        randomness = dict(cfg.get('randomness') or {})
        if randomness.get('seed') is None:
            cfg.randomness = {**randomness, 'seed': checkpoint['meta'].get('seed')}
