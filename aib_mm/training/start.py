"""The start of a training: its config as the program's options ask for it."""

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS

from aib_mm.errors import UsageError
from aib_mm.training.checkpoint import (
    POINTER,
    RESUME_KEYS,
    check_checkpoint,
    latest_checkpoint,
    named_checkpoint,
)
from aib_mm.training.coco import check_coco
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
    load_from: str | None = None,
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
        load_from: the checkpoint whose weights a new training begins with; by default
            the config's.
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
    cfg.load_from = load_from or cfg.get('load_from')
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

    Raises:
        KeyboardInterrupt: somebody stopped it: where, and how to go on.
    """
    # Weights of another model are a usual start; to resume, all are needed.
    runner = build_runner(cfg, allow_missing=not cfg.get('resume'))
    # Not in the config: the toolkits' own tools read the one in the work folder.
    for kind in safeguards(cfg):
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())
    try:
        runner.train()
    except BaseException as error:
        if not _was_interrupted(error):
            raise
        found = named_checkpoint if saves_folders(cfg) else latest_checkpoint
        latest = found(cfg.work_dir)
        goes_on = 'there is no checkpoint yet to go on from'
        if latest:
            goes_on = f'--resume goes on from {latest}'
        at = f'at iteration {runner.iter} of {runner.max_iters}'
        raise KeyboardInterrupt(f'{at}; {goes_on}') from None


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind it; mmengine's text of a config makes another error."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


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
    """Check annotation files now, each sample when it is loaded, and what is used.

    Args:
        cfg: config of a training; afterwards its pipelines begin with ``CheckSample``,
            and its hooks end with ``UsedDataHook``.
        on_damage: what to do at damage, ``'stop'`` or ``'skip'``.

    Raises:
        DataError: an annotation file is damaged, or names none of the classes.
    """
    for split in ('train', 'val'):
        for dataset in innermost_datasets(cfg.get(f'{split}_dataloader')):
            pipeline = dataset.get('pipeline')
            # Images that a backend fetches are its own to check.
            if not pipeline or pipeline[0].get('backend_args'):
                continue
            kind = _dataset_class(dataset, cfg)
            classes = _classes_of(dataset, kind)
            annotations = str(dataset.get('ann_file') or '')
            if annotations.endswith('.json') and os.environ.get('RANK', '0') == '0':
                path = Path(dataset.get('data_root') or '', annotations)
                is_coco = _reads_coco(kind)
                check_coco(path, on_damage, classes=classes, is_coco=is_coco)
            if split == 'train':
                dataset['pipeline'] = _checked(dataset, on_damage, classes)
    # For the toolkits' own tools, which read the config in the work folder.
    imports = dict(cfg.get('custom_imports') or {})
    imports['imports'] = list(dict.fromkeys([*imports.get('imports', []), 'aib_mm']))
    cfg.custom_imports = imports
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='UsedDataHook')]


def _checked(dataset: Any, on_damage: str, classes: Sequence[str] | None) -> list:
    """A pipeline whose first step checks samples, and loads them for that."""
    pipeline = list(dataset['pipeline'])
    load = [*takewhile(lambda step: type_name(step).startswith('Load'), pipeline)]
    check: dict[str, Any] = dict(type='CheckSample', on_damage=on_damage, load=load)
    if classes is not None:
        check.update(num_classes=len(classes))
    if dataset.get('ignore_index') is not None:
        check.update(ignore_index=dataset['ignore_index'])
    return [check, *pipeline[len(load) :]]


def _dataset_class(dataset: Any, cfg: Config) -> Any:
    """The class that a data set's config names; None where there is none."""
    kind = dataset.get('type')
    if not isinstance(kind, str):
        return kind
    with DATASETS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        return registry.get(kind)


def _classes_of(dataset: Any, kind: Any) -> Sequence[str] | None:
    """Names of the classes that a data set will have; None if they are not known."""
    named = {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}
    classes = dataset.get('classes') or named.get('classes')
    if isinstance(classes, str) and Path(classes).is_file():
        return Path(classes).read_text(encoding='utf-8').splitlines()
    return classes or None


def _reads_coco(kind: Any) -> bool:
    """Whether a class reads annotations as mmdet's ``CocoDataset`` does."""
    bases = getattr(kind, '__mro__', ())
    coco = next((base for base in bases if base.__name__ == 'CocoDataset'), None)
    return coco is not None and all(
        getattr(kind, name) is getattr(coco, name)
        for name in ('load_data_list', 'parse_data_info')
    )


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
