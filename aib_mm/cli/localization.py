"""``tools/localization.py``: do maps lie on the object, does the prediction on them?"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from aib_mm.cli.common import guarded
from aib_mm.cli.interpretability import plain_console, progress_of
from aib_mm.cli.interpretability_options import read_pairs, read_titles
from aib_mm.cli.localization_options import make_parser
from aib_mm.diagnosis.configs import load_config
from aib_mm.errors import UsageError
from aib_mm.experiments.grid.progress import say
from aib_mm.experiments.grid.results import machine
from aib_mm.experiments.maps.data import build_dataset
from aib_mm.experiments.maps.localization_maps import MapMaker, MapOptions
from aib_mm.experiments.maps.localization_results import (
    LocalizationResults,
    LocatedCheckpoint,
)
from aib_mm.experiments.maps.localization_run import LocatedSubject, MeasureSettings
from aib_mm.interpret.measure.localization import check_threshold
from aib_mm.training.checkpoint import check_checkpoint
from aib_mm.utils.files import json_text, write_atomically
from aib_mm.utils.tables import terminal_table


def localization(args: argparse.Namespace) -> None:
    """Measure what is not measured yet, print and write the table."""
    titles = read_titles(args)
    layers = read_pairs('--cam-layer', 'NAME=LAYER', args.cam_layer, titles)
    _check(args)
    console = plain_console()
    # All of them are tried before any is measured.
    plans = [_plan(args, layers, *model) for model in args.model]
    models = {}
    with progress_of(console) as progress:
        for subjects, (config, *_) in zip(plans, args.model, strict=True):
            title = titles[Path(config).stem]
            models[title] = [
                _measure(subject, path, title, args.force, progress)
                for path, subject in subjects.items()
            ]
    _write(args, models, console)


def _check(args: argparse.Namespace) -> None:
    try:
        check_threshold('--threshold', args.threshold)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for _, *checkpoints in args.model:
        for checkpoint in checkpoints:
            check_checkpoint(checkpoint)


def _plan(
    args: argparse.Namespace, layers: dict[str, str], config: str, *checkpoints: str
) -> dict[str, LocatedSubject]:
    """The config's checkpoints, tried on an image."""
    cfg = load_config(config, args.cfg_options)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    layer = layers.get(Path(config).stem)
    options = MapOptions(args.seed, args.level, layer, args.window, device)
    settings = MeasureSettings(
        args.seed, args.images, args.batch, args.threshold, args.tolerance, args.steps
    )
    dataset = build_dataset(cfg)
    folder = Path(args.out) / 'measured'
    subjects = {}
    for checkpoint in checkpoints:
        maker = MapMaker(cfg, checkpoint, options, args.maps, dataset[0])
        subjects[checkpoint] = LocatedSubject(cfg, maker, dataset, settings, folder)
    return subjects


def _measure(
    subject: LocatedSubject, path: str, title: str, force: bool, progress: Progress
) -> LocatedCheckpoint:
    total = len(subject.indices)
    maker = subject.maker
    names = {name: maker.title(name) for name in maker.maps}
    found = LocatedCheckpoint(path, names)

    def advance(images: int) -> None:
        progress.advance(task, images)

    task = progress.add_task(title, total=total)
    for name in maker.maps:
        before = 'read' if subject.path(name).is_file() and not force else 'measured'
        progress.reset(task, total=total, description=f'{title}: {name}')
        found.located[name] = subject.located(name, advance, force)
        say(progress.console, f'{title}, {Path(path).name}: {name} {before}')
    progress.remove_task(task)
    return found


def _write(
    args: argparse.Namespace,
    models: dict[str, list[LocatedCheckpoint]],
    console: Console,
) -> None:
    command = shlex.join(['python', *sys.argv])
    about = {key: value for key, value in vars(args).items() if key != 'force'}
    about['command'] = command
    results = LocalizationResults(models, about, _notes(args, models, command))
    console.print(terminal_table(results.table()))
    out = Path(args.out)
    write_atomically(out / 'localization.md', results.as_markdown())
    write_atomically(out / 'localization.json', json_text(results.as_json()))
    print(f'{out}: localization.md, localization.json')


def _notes(
    args: argparse.Namespace, models: dict[str, list[LocatedCheckpoint]], command: str
) -> list[str]:
    first = next(iter(models.values()))[0]
    name = next(iter(first.located))
    area, chance = (100 * first.mean(name, key) for key in ('area', 'chance'))
    return [
        f'{len(first.located[name].labels)} images, seed {args.seed}; mean attention '
        f'and mean latent. Objects cover {area:.2f} % of them: the energy, and the '
        f'IoU, of a map without preference; {chance:.2f} % count as a hit.',
        f"IoU of the positions from {args.threshold:g} of the map's range on; pointing "
        f'game within {args.tolerance} px; areas under {args.steps} steps of insertion '
        '(higher is better) and deletion (lower is better) of the predicted class.',
        f'`{command}`',
        '{cpu}, {cores} cores; {gpu}; torch {torch}, aib_mm {aib_mm}.'.format(
            **machine()
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), localization, argv)
