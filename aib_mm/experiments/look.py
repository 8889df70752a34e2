"""The program behind ``tools/visualize_attention.py``: images, pictures and a page."""

import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.error import URLError

import torch

from aib_mm.apis import AttentionInferencer, InferenceError
from aib_mm.diagnosis.configs import load_config
from aib_mm.diagnosis.explain import explained
from aib_mm.errors import UsageError, did_you_mean
from aib_mm.experiments.progress import make_console, make_progress, say
from aib_mm.interpret.draw.sheet import draw_sheet
from aib_mm.interpret.draw.writer import PAGE
from aib_mm.interpret.record.inputs import Failure, Item
from aib_mm.interpret.result import AttentionResult
from aib_mm.training.checkpoint import CheckpointError
from aib_mm.training.toolkits import toolkit_of
from aib_mm.utils.libraries import MissingLibraryError
from aib_mm.utils.shipped import shipped_model, shipped_models

_LINES = 10  # of progress, where there is no terminal


def look(options: Namespace) -> int:
    """Look as the program's options say; 1 if some images could not be used.

    Raises:
        UsageError: an option that does not fit the others, the config or the machine.
        CheckpointError: an unusable checkpoint, or one that lacks weights.
    """
    _take_shipped(options)
    _check(options)
    begin = time.perf_counter()
    inferencer = _build(options)
    items = _items(inferencer, options)
    count = min(options.limit or len(items), len(items))
    items = [items[i * len(items) // count] for i in range(count)]
    loaded = time.perf_counter()
    writer = inferencer.writer(
        options.out,
        value_range=options.range,
        page_images=options.page_images,
        right_from=options.right_from,
        title=f'{Path(options.config).stem}: what it looks at',
    )
    first: list[AttentionResult] = []
    results = inferencer.stream(items, options.batch, options.seed)
    try:
        with writer:
            for result in _counted(results, len(items)):
                writer.add(result)
                wanted = len(first) < (options.sheet or 0)
                if wanted and isinstance(result, AttentionResult):
                    first.append(result)
    except InferenceError as error:
        raise UsageError(f'{options.config}: {error}') from error
    failed = {failure.name for failure in writer.failures}
    first = [result for result in first if result.name not in failed]
    if first:
        drawn = [inferencer.draw(result) for result in first]
        draw_sheet(options.out / 'sheet.png', first, drawn, options.range)
    took = time.perf_counter() - loaded
    print(
        f'{len(items)} images in {took:.1f} s: model {inferencer.model_seconds:.1f} s, '
        f'drawing and writing {writer.seconds:.1f} s beside it; before that '
        f'{loaded - begin:.1f} s to load the model and list the images'
    )
    print(f'page: {options.out / PAGE}')
    for failure in writer.failures:
        reason = f'{failure.name} was left out: {failure.reason}'
        print(f'visualize_attention.py: {reason}', file=sys.stderr)
    return int(bool(writer.failures))


def _take_shipped(options: Namespace) -> None:
    """Behind the name of a model that comes with the package all words are images."""
    if options.config in shipped_models():
        images = [] if options.checkpoint is None else [Path(options.checkpoint)]
        options.images = images + options.images
        options.config, options.checkpoint = map(str, shipped_model(options.config))
        return
    found = '::' in options.config or Path(options.config).is_file()
    hint = '' if found else did_you_mean(options.config, shipped_models())
    if hint:
        raise UsageError(f'config {options.config} does not exist; {hint}')
    if options.checkpoint is None:
        raise UsageError(
            f'give a checkpoint of {options.config}; without one go the models that '
            f'come with aib_mm: {", ".join(shipped_models())}'
        )


def _check(options: Namespace) -> None:
    if bool(options.images) == (options.split is not None):
        raise UsageError('give either images or folders, or --split')
    for path in options.images:
        if not path.exists():
            raise UsageError(f'image or folder {path} does not exist')
    out = options.out
    there = next(path for path in (out, *out.parents) if path.exists())
    if not there.is_dir():
        raise UsageError(f'--out {out}: {there} is no folder; name another one')
    if options.range is not None and not options.range[0] < options.range[1]:
        raise UsageError(f'--range LOW must be less than HIGH, got {options.range}')


def _build(options: Namespace) -> AttentionInferencer:
    cfg = load_config(options.config, options.cfg_options)
    toolkit_of(cfg)
    if cfg.get('test_dataloader') is None:
        raise UsageError(
            f'config {options.config} has no test_dataloader, whose pipeline is needed'
        )
    try:  # before anything is loaded
        torch.empty(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise UsageError(
            f'--device {options.device} cannot be used here, take cpu: {reason}'
        ) from error
    level = 'mean' if options.level is None else options.level
    maps = dict(level=level, min_score=options.score, source=options.source)
    try:
        with explained(cfg):
            return AttentionInferencer(cfg, options.checkpoint, options.device, **maps)
    except CheckpointError:
        raise
    # No such source, or a part that cannot be built.
    except (ValueError, MissingLibraryError) as error:
        raise UsageError(f'{options.config}: {error}') from error


def _items(inferencer: AttentionInferencer, options: Namespace) -> list[Item]:
    if options.split is None:
        return inferencer.items(options.images)
    try:
        with explained(inferencer.cfg):
            return inferencer.split_items(options.split)
    except URLError:  # has a message of its own
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f'--split {options.split} of {options.config}: {error}'
        ) from error


def _counted(
    results: Iterable[AttentionResult | Failure], total: int
) -> Iterator[AttentionResult | Failure]:
    """The results, with a bar on a terminal and a few lines elsewhere."""
    console = make_console()
    with make_progress(console) as bars:
        task = bars.add_task('images', total=total)
        for done, result in enumerate(results, 1):
            yield result
            bars.advance(task)
            due = done * _LINES // total > (done - 1) * _LINES // total
            if due and not console.is_terminal:
                say(console, f'{done} of {total} images')
