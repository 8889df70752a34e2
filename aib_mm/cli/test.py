"""``tools/test.py``: test any checkpoint of mmpretrain, mmdet or mmseg."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aib_mm.cli.options import add_shared_options, guarded, integer, run_settings

if TYPE_CHECKING:
    from mmengine.config import Config


def make_parser() -> argparse.ArgumentParser:
    """The options: all that the testing programs of the three toolkits have."""
    parser = argparse.ArgumentParser(
        prog='test.py', description='Test a model of mmpretrain, mmdet or mmseg'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument(
        '--out',
        help='write the predictions here: a .pkl file (mmpretrain, mmdet), a folder '
        'for masks (mmseg); or the metrics, see --out-item',
    )
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what --out gets (default: pred); metrics go to .json, .yaml or .pkl',
    )
    parser.add_argument('--show', action='store_true', help='show predictions')
    parser.add_argument(
        '--show-dir',
        help='folder for painted images; mmdet puts it below WORK_DIR/TIMESTAMP',
    )
    parser.add_argument(
        '--interval', type=integer(1), help='draw every n-th sample (mmpretrain: 1)'
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds a window stays (2)'
    )
    parser.add_argument(
        '--allow-missing',
        action='store_true',
        help='test although the checkpoint lacks weights of the model, which stay '
        'random; not if it lacks all of them',
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_shared_options(parser)
    return parser


def configure(args: argparse.Namespace) -> 'Config':
    """The config that the options ask for."""
    from aib_mm.diagnosis.configs import load_config
    from aib_mm.training.runner import configure_test
    from aib_mm.training.toolkits import Drawing

    cfg = load_config(args.config, args.cfg_options)
    drawing = Drawing(
        show=args.show,
        show_dir=args.show_dir,
        wait_time=args.wait_time,
        interval=args.interval,
        tta=args.tta,
    )
    configure_test(
        cfg,
        args.checkpoint,
        run_settings(args),
        out=args.out,
        out_item=args.out_item,
        drawing=drawing if args.show or args.show_dir is not None else None,
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


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), test, argv)
