"""``tools/train.py``: train any config of mmpretrain, mmdet or mmseg."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import find_latest_checkpoint

from aib_mm.checkpoint import RESUME_KEYS, check_checkpoint
from aib_mm.cli.common import (
    LOADERS,
    add_shared_options,
    apply_shared_options,
    build_runner,
    guarded,
    load_config,
    set_loader_options,
)
from aib_mm.cli.toolkits import UsageError, toolkit_of


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
    apply_shared_options(cfg, args)
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
    return cfg


def _enable_amp(cfg: Config) -> None:
    if get_device() == 'cpu':
        raise UsageError(
            '--amp: mixed-precision training needs a GPU and none is visible; '
            'leave --amp out'
        )
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    kind = getattr(kind, '__name__', kind)
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


def _set_start(cfg: Config, resume: str | None) -> None:
    """Decide between a checkpoint to resume, one to start from, and neither."""
    if resume == 'auto':
        latest = None
        if Path(cfg.work_dir, 'last_checkpoint').is_file():
            latest = find_latest_checkpoint(cfg.work_dir)
        # Without one, load_from stays: a first run may well start from a checkpoint.
        cfg.resume = latest is not None
        cfg.load_from = latest or cfg.get('load_from')
    elif resume is not None:
        cfg.resume = True
        cfg.load_from = resume
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from, RESUME_KEYS if cfg.get('resume') else ())


def train(args: argparse.Namespace) -> None:
    """Train as the options say."""
    cfg = configure(args)
    build_runner(cfg).train()


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), train, argv)


if __name__ == '__main__':
    raise SystemExit(main())
