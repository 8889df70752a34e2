"""``tools/train.py``: train any config of mmpretrain, mmdet or mmseg."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from aib_mm.cli.common import LOADERS, add_shared_options, apply_shared_options, guarded
from aib_mm.diagnosis.configs import load_config, require
from aib_mm.diagnosis.explained import explained
from aib_mm.errors import UsageError
from aib_mm.training.checkpoint import (
    POINTER,
    RESUME_KEYS,
    check_checkpoint,
    latest_checkpoint,
)
from aib_mm.training.damaged_data import ON_DAMAGE, check_coco
from aib_mm.training.runner import build_runner, set_loader_options
from aib_mm.training.strategies import check_launcher, safeguards, saves_folders
from aib_mm.training.toolkits import toolkit_of
from aib_mm.utils.configs import type_name

_NEEDED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')


def make_parser() -> argparse.ArgumentParser:
    """The options: all that the training programs of the three toolkits have."""
    parser = argparse.ArgumentParser(
        prog='train.py', description='Train a model of mmpretrain, mmdet or mmseg'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a value (or with "auto") from the '
        'latest one in the work folder, if there is one',
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='do not evaluate during training'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the real over the base batch size',
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='switch persistent_workers off in the data loaders',
    )
    parser.add_argument(
        '--check-data',
        choices=[*ON_DAMAGE, 'off'],
        default='stop',
        help='what to do at a damaged image or annotation (%(default)s)',
    )
    add_shared_options(parser)
    return parser


def configure(args: argparse.Namespace) -> Config:
    """The config that the options ask for.

    Raises:
        UsageError: an option does not fit the config or the machine.
        CheckpointError: ``--resume`` or ``load_from`` names an unusable checkpoint.
    """
    cfg = load_config(args.config, args.cfg_options)
    toolkit = toolkit_of(cfg)
    require(cfg, _NEEDED, 'training needs it')
    apply_shared_options(cfg, args)
    check_launcher(cfg)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        _enable_amp(cfg)
    if args.auto_scale_lr:
        _enable_lr_scaling(cfg)
    _set_start(cfg, args.resume)
    set_loader_options(
        cfg,
        LOADERS,
        defaults=toolkit.loader_defaults,
        no_pin_memory=args.no_pin_memory,
        no_persistent_workers=args.no_persistent_workers,
    )
    if args.check_data != 'off':
        _check_data(cfg, args.check_data)
    return cfg


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


def _check_data(cfg: Config, on_damage: str) -> None:
    """Check annotation files now, and the files of each sample when it is loaded."""
    check = dict(type='CheckSample', on_damage=on_damage)
    for dataset in _innermost_datasets(cfg.get('train_dataloader')):
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


def _innermost_datasets(node: Any) -> Iterator[dict]:
    """The data sets that load files, below those that mix or repeat them."""
    if isinstance(node, list | tuple):
        for child in node:
            yield from _innermost_datasets(child)
    elif isinstance(node, dict):
        inner = [node[key] for key in ('dataset', 'datasets') if key in node]
        if inner:
            yield from _innermost_datasets(inner)
        else:
            yield node


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


def train(args: argparse.Namespace) -> None:
    """Train as the options say."""
    cfg = configure(args)
    with explained(cfg):
        # Weights of another model are a usual start; to resume, all are needed.
        runner = build_runner(cfg, allow_missing=not cfg.get('resume'))
        # Not in the config: the toolkits' own tools read the one in the work folder.
        for kind in safeguards(cfg):
            if not any(isinstance(hook, kind) for hook in runner.hooks):
                runner.register_hook(kind())
        runner.train()


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), train, argv)


if __name__ == '__main__':
    raise SystemExit(main())
