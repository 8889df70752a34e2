"""``tools/test.py``: test any checkpoint of mmpretrain, mmdet or mmseg."""

import argparse
from typing import TYPE_CHECKING

from aib_mm.cli.options import add_shared_options, filled, integer, program

if TYPE_CHECKING:
    from mmengine.config import Config


def make_parser() -> argparse.ArgumentParser:
    """The options: all that the testing programs of the three toolkits have."""
    parser = argparse.ArgumentParser(
        prog='test.py', description='Test a model of mmpretrain, mmdet or mmseg'
    )
    add = parser.add_argument
    add('config', help='config file')
    add('checkpoint', help='checkpoint file or address')
    add(
        '--out',
        help='write the predictions here: a .pkl file (mmpretrain, mmdet), a folder '
        'for masks (mmseg); or the metrics, see --out-item',
    )
    add(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what --out gets (default: pred); metrics go to .json, .yaml or .pkl',
    )
    add('--show', action='store_true', help='show predictions')
    add(
        '--show-dir',
        help='folder for painted images; mmdet puts it below WORK_DIR/TIMESTAMP',
    )
    add('--interval', type=integer(1), help='draw every n-th sample (mmpretrain: 1)')
    add('--wait-time', type=float, default=2, help='seconds a window stays (2)')
    add(
        '--allow-missing',
        action='store_true',
        help='test although the checkpoint lacks weights of the model, which stay '
        'random, or has more of an attention; not if it lacks all of them',
    )
    add('--tta', action='store_true', help='test-time augmentation')
    add_shared_options(parser)
    return parser


def configure(args: argparse.Namespace) -> 'Config':
    """The config that the options ask for."""
    from aib_mm.diagnosis.configs import load_config
    from aib_mm.training.runner import RunSettings, configure_test
    from aib_mm.training.toolkits import Drawing

    cfg = load_config(args.config, args.cfg_options)
    is_drawn = args.show or args.show_dir is not None
    configure_test(
        cfg,
        args.checkpoint,
        filled(RunSettings, args),
        out=args.out,
        out_item=args.out_item,
        drawing=filled(Drawing, args) if is_drawn else None,
        tta=args.tta,
    )
    return cfg


def test(args: argparse.Namespace) -> None:
    """Test as the options say."""
    import mmengine
    from mmengine.dist import is_main_process

    from aib_mm.diagnosis.explain import explained
    from aib_mm.training.runner import build_runner

    cfg = configure(args)
    advice = '; to test it as it is, pass --allow-missing'
    with explained(cfg):
        metrics = build_runner(cfg, args.allow_missing, advice).test()
    if args.out_item == 'metrics' and is_main_process():
        mmengine.dump(metrics, args.out)


main = program(make_parser, test)
