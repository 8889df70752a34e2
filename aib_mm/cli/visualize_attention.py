"""``tools/visualize_attention.py``: pictures and a page of what a model attends to."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from aib_mm.apis import SPLITS, AttentionInferencer, InferenceError
from aib_mm.cli.common import guarded, integer
from aib_mm.diagnosis.configs import CfgOptions, load_config
from aib_mm.errors import UsageError
from aib_mm.interpret.draw.sheet import draw_sheet
from aib_mm.interpret.draw.writer import PAGE
from aib_mm.interpret.record.inputs import Failure, Item
from aib_mm.interpret.result import AttentionResult
from aib_mm.training.checkpoint import CheckpointError
from aib_mm.training.toolkits import toolkit_of

_LINES = 10  # of progress, where there is no terminal


class _Parser(argparse.ArgumentParser):
    """Takes images after options too."""

    def parse_args(self, *args: Any, **kwargs: Any) -> argparse.Namespace:
        return self.parse_intermixed_args(*args, **kwargs)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = _Parser(
        prog='visualize_attention.py',
        description='Predict images and show what the model attends to: pictures, '
        'arrays and a page. For any config of mmpretrain, mmdet or mmseg whose model '
        'holds AIBAttention or the attention of another method.',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument(
        'images', nargs='*', type=Path, metavar='IMAGE', help='image files or folders'
    )
    parser.add_argument(
        '--split', choices=SPLITS, help="images of the config's data set instead"
    )
    parser.add_argument('--out', required=True, type=Path, help='folder to write')
    parser.add_argument(
        '--limit', type=integer(1), metavar='N', help='N images only, spread evenly'
    )
    parser.add_argument('--batch', type=integer(1), default=8, help='images a pass (8)')
    parser.add_argument(
        '--level', type=integer(0), help='of the attention (mean of all)'
    )
    parser.add_argument(
        '--range',
        nargs=2,
        type=float,
        metavar=('LOW', 'HIGH'),
        help='ends of the colour scale of mean and samples (least and greatest value: '
        'of each image in the pictures, of all on the page)',
    )
    parser.add_argument(
        '--score', type=float, default=0.3, help='of boxes that count as found (0.3)'
    )
    parser.add_argument(
        '--right-from',
        type=float,
        default=0.5,
        metavar='Q',
        help='quality from which a prediction counts as right: F1 of the boxes, mean '
        'IoU of the image; a class is 0 or 1 (0.5)',
    )
    parser.add_argument(
        '--page-images', type=integer(0), default=500, help='on the page (500)'
    )
    parser.add_argument(
        '--sheet',
        type=integer(1),
        metavar='N',
        help='also write sheet.png: the first N images with colour bars',
    )
    parser.add_argument('--device', default='cpu', help='cpu or cuda (cpu)')
    parser.add_argument('--seed', type=int, default=0, help='of the samples (0)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='override settings of the config, as in test.py',
    )
    return parser


def visualize(args: argparse.Namespace) -> int:
    """Do as the options say; 1 if some images could not be used."""
    if bool(args.images) == (args.split is not None):
        raise UsageError('give either images or folders, or --split')
    for path in args.images:
        if not path.exists():
            raise UsageError(f'image or folder {path} does not exist')
    there = next(path for path in (args.out, *args.out.parents) if path.exists())
    if not there.is_dir():
        raise UsageError(f'--out {args.out}: {there} is no folder; name another one')
    if args.range is not None and not args.range[0] < args.range[1]:
        raise UsageError(f'--range LOW must be less than HIGH, got {args.range}')
    begin = time.perf_counter()
    inferencer = _build(args)
    items = _items(inferencer, args)
    if args.limit is not None and args.limit < len(items):
        items = [items[i * len(items) // args.limit] for i in range(args.limit)]
    loaded = time.perf_counter()
    writer = inferencer.writer(
        args.out,
        value_range=None if args.range is None else tuple(args.range),
        page_images=args.page_images,
        right_from=args.right_from,
        title=f'{Path(args.config).stem}: what it looks at',
    )
    failures: list[Failure] = []
    first: list[AttentionResult] = []
    try:
        with writer, _progress(len(items)) as advance:
            for result in inferencer.stream(items, args.batch, args.seed):
                writer.add(result)
                if isinstance(result, Failure):
                    failures.append(result)
                elif len(first) < (args.sheet or 0):
                    first.append(result)
                advance()
    except InferenceError as error:
        raise UsageError(f'{args.config}: {error}') from error
    if first:
        drawn = [inferencer.draw(result) for result in first]
        draw_sheet(args.out / 'sheet.png', first, drawn, writer.value_range)
    took = time.perf_counter() - loaded
    print(
        f'{len(items)} images in {took:.1f} s: model {inferencer.model_seconds:.1f} s, '
        f'drawing and writing {writer.seconds:.1f} s beside it; before that '
        f'{loaded - begin:.1f} s to load the model and list the images'
    )
    print(f'page: {args.out / PAGE}')
    for failure in failures:
        print(
            f'visualize_attention.py: {failure.name} was left out: {failure.reason}',
            file=sys.stderr,
        )
    return int(bool(failures))


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), visualize, argv)


def _build(args: argparse.Namespace) -> AttentionInferencer:
    cfg = load_config(args.config, args.cfg_options)
    toolkit_of(cfg)
    if cfg.get('test_dataloader') is None:
        raise UsageError(
            f'config {args.config} has no test_dataloader, whose pipeline is needed'
        )
    _check_device(args.device)
    try:
        return AttentionInferencer(
            cfg,
            args.checkpoint,
            args.device,
            level='mean' if args.level is None else args.level,
            min_score=args.score,
        )
    except CheckpointError:
        raise
    except ValueError as error:  # no attention, or a part that cannot be built
        raise UsageError(f'{args.config}: {error}') from error


def _check_device(name: str) -> None:
    """A tensor can be made there, before anything is loaded.

    Raises:
        UsageError: there is no such device, or it cannot be used.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise UsageError(
            f'--device {name} cannot be used here, take cpu: {reason}'
        ) from error


def _items(inferencer: AttentionInferencer, args: argparse.Namespace) -> list[Item]:
    if args.split is None:
        return inferencer.items(args.images)
    try:
        return inferencer.split_items(args.split)
    except URLError:  # has a message of its own
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f'--split {args.split} of {args.config}: {error}') from error


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, a few lines elsewhere; gives what counts an image."""
    console = Console()
    bars = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('eta'),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        bars.advance(task)
        if not console.is_terminal and done * _LINES // total > (
            (done - 1) * _LINES // total
        ):
            print(f'{done} of {total} images', flush=True)

    with bars:
        task = bars.add_task('images', total=total)
        yield advance


if __name__ == '__main__':
    raise SystemExit(main())
