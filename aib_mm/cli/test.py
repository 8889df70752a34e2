"""``tools/test.py``: test any checkpoint of mmpretrain, mmdet or mmseg."""

import argparse
from collections.abc import Sequence

import mmengine
from mmengine.config import Config
from mmengine.dist import is_main_process

from aib_mm.cli.common import add_shared_options, apply_shared_options, guarded, integer
from aib_mm.diagnosis.configs import load_config, require
from aib_mm.diagnosis.explained import explained
from aib_mm.errors import UsageError
from aib_mm.training.checkpoint import check_checkpoint
from aib_mm.training.runner import build_runner, set_loader_options
from aib_mm.training.toolkits import Drawing, enable_drawing, enable_tta, toolkit_of

_NEEDED = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')
_METRIC_SUFFIXES = ('.json', '.yaml', '.yml', '.pkl', '.pickle')


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


def configure(args: argparse.Namespace) -> Config:
    """The config that the options ask for.

    Raises:
        UsageError: an option does not fit the config.
        CheckpointError: the checkpoint cannot be used.
    """
    if args.out is None and args.out_item is not None:
        raise UsageError(f'--out-item {args.out_item} needs --out FILE')
    cfg = load_config(args.config, args.cfg_options)
    toolkit = toolkit_of(cfg)
    require(cfg, _NEEDED, 'a test needs it')
    apply_shared_options(cfg, args)
    check_checkpoint(args.checkpoint)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir is not None:
        drawing = Drawing(
            show=args.show,
            show_dir=args.show_dir,
            wait_time=args.wait_time,
            interval=args.interval,
            tta=args.tta,
        )
        enable_drawing(cfg, drawing)
    if args.tta:
        enable_tta(cfg)
    if args.out is not None:
        _check_out(args.out, args.out_item, toolkit.out_suffixes)
        if args.out_item != 'metrics':
            toolkit.save_predictions(cfg, args.out)
    defaults = dict(toolkit.loader_defaults)
    defaults.pop('persistent_workers', None)  # one pass over the data: nothing gained
    set_loader_options(
        cfg,
        ['test_dataloader'],
        defaults=defaults,
        no_pin_memory=args.no_pin_memory,
    )
    return cfg


def _check_out(out: str, item: str | None, suffixes: tuple[str, ...]) -> None:
    """Refuse before the test what would fail after it."""
    allowed = _METRIC_SUFFIXES if item == 'metrics' else suffixes
    if allowed and not out.endswith(allowed):
        raise UsageError(f'--out {out} must end in one of {", ".join(allowed)}')


def test(args: argparse.Namespace) -> None:
    """Test as the options say."""
    cfg = configure(args)
    advice = '; to test it as it is, pass --allow-missing'
    with explained(cfg):
        metrics = build_runner(cfg, args.allow_missing, advice).test()
    if args.out_item == 'metrics' and is_main_process():
        mmengine.dump(metrics, args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), test, argv)


if __name__ == '__main__':
    raise SystemExit(main())
