"""``tools/train.py``: train any config of mmpretrain, mmdet or mmseg."""

import argparse
from typing import TYPE_CHECKING

from aib_mm.cli.options import add_shared_options, filled, program

if TYPE_CHECKING:
    from mmengine.config import Config


def make_parser() -> argparse.ArgumentParser:
    """The options: all that the training programs of the three toolkits have."""
    parser = argparse.ArgumentParser(
        prog='train.py', description='Train a model of mmpretrain, mmdet or mmseg'
    )
    add = parser.add_argument
    add('config', help='config file')
    add(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a value (or with "auto") from the '
        'latest one in the work folder, if there is one',
    )
    add(
        '--load-from',
        metavar='CHECKPOINT',
        help='begin a new training with these weights; what is resumed has its own',
    )
    add('--no-validate', action='store_true', help='do not evaluate during training')
    add(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the real over the base batch size',
    )
    add(
        '--no-persistent-workers',
        action='store_true',
        help='switch persistent_workers off in the data loaders',
    )
    add(
        '--check-data',
        choices=['stop', 'skip', 'off'],
        default='stop',
        help='what to do at a damaged image or annotation (%(default)s)',
    )
    add_shared_options(parser)
    return parser


def configure(args: argparse.Namespace) -> 'Config':
    """The config that the options ask for."""
    from aib_mm.diagnosis.configs import load_config
    from aib_mm.training.runner import RunSettings
    from aib_mm.training.start import configure_training

    cfg = load_config(args.config, args.cfg_options)
    configure_training(
        cfg,
        filled(RunSettings, args),
        resume=args.resume,
        load_from=args.load_from,
        validate=not args.no_validate,
        scale_lr=args.auto_scale_lr,
        persistent_workers=not args.no_persistent_workers,
        check_data=None if args.check_data == 'off' else args.check_data,
    )
    return cfg


def train(args: argparse.Namespace) -> None:
    """Train as the options say."""
    from aib_mm.diagnosis.configs import load_config
    from aib_mm.diagnosis.explain import explained
    from aib_mm.training.start import train_config

    cfg = configure(args)
    # Places are those of the file: pipelines have got a check of the data since.
    with explained(load_config(args.config, args.cfg_options)):
        train_config(cfg)


main = program(make_parser, train)
