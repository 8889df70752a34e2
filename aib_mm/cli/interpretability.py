"""``tools/interpretability.py``: does attention stay on an edited image? (Table 8)"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from aib_mm.cli.common import guarded
from aib_mm.cli.grid import PLAIN_WIDTH
from aib_mm.cli.interpretability_options import make_parser, read_titles
from aib_mm.diagnosis.configs import load_config
from aib_mm.errors import UsageError
from aib_mm.experiments.grid.progress import say
from aib_mm.experiments.grid.results import machine
from aib_mm.experiments.maps.data import (
    DatasetImages,
    build_dataset,
    loads_bgr,
)
from aib_mm.experiments.maps.interpretability_results import (
    Checkpoint,
    InterpretabilityResults,
)
from aib_mm.experiments.maps.interpretability_run import ImageSettings, Subject
from aib_mm.experiments.maps.model import MapReader, MapSettings
from aib_mm.interpret.measure.edits import (
    ColorBlock,
    Edit,
    HighFrequencies,
    LowFrequencies,
    Patch,
)
from aib_mm.training.checkpoint import check_checkpoint
from aib_mm.utils.files import json_text, write_atomically
from aib_mm.utils.tables import terminal_table


def interpretability(args: argparse.Namespace) -> None:
    """Measure what is not measured yet, print and write the tables."""
    titles = read_titles(args)
    for _, *checkpoints in args.model:
        for checkpoint in checkpoints:
            check_checkpoint(checkpoint)
    console = plain_console()
    models: dict[str, list[Checkpoint]] = {}
    # All of them are tried before any is measured.
    plans = [_plan(args, *model) for model in args.model]
    with progress_of(console) as progress:
        for (subjects, edits), (config, *_) in zip(plans, args.model, strict=True):
            title = titles[Path(config).stem]
            models[title] = [
                _measure(subject, path, edits, title, args.force, progress)
                for path, subject in subjects.items()
            ]
    _write(args, models, [edit.name for edit in edits], console)


def plain_console() -> Console:
    """Of a fixed width where the output is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def progress_of(console: Console) -> Progress:
    """A bar with the numbers of images; none where the output is no terminal."""
    return Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _plan(
    args: argparse.Namespace, config: str, *checkpoints: str
) -> tuple[dict[str, Subject], list[Edit]]:
    """The config's checkpoints, tried on an image, and the edits of its images."""
    cfg = load_config(config, args.cfg_options)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    maps = MapSettings(args.level, args.cam_method, args.cam_layer, device)
    images = ImageSettings(args.seed, args.images, args.batch, args.normalization)
    dataset = build_dataset(cfg)
    folder = Path(args.out) / 'measured'
    subjects = {}
    for checkpoint in checkpoints:
        reader = MapReader(cfg, checkpoint, maps, dataset[0])
        subjects[checkpoint] = Subject(cfg, reader, dataset, images, folder)
    edits = _edits(args, loads_bgr(cfg))
    next(iter(subjects.values())).check(edits)
    return subjects, edits


def _edits(args: argparse.Namespace, bgr: bool) -> list[Edit]:
    """The columns of the table, in its order."""
    edits: list[Edit] = [ColorBlock(size) for size in args.sizes]
    if args.patches_from is not None:
        other = load_config(args.patches_from, None)
        source = DatasetImages(other, flip=loads_bgr(other) != bgr)
        edits += [Patch(size, source, args.patch_fit) for size in args.sizes]
    edits += [HighFrequencies(radius, args.clip) for radius in args.high]
    edits += [LowFrequencies(radius, args.clip) for radius in args.low]
    if not edits:
        raise UsageError('no edits: give at least one of --sizes, --high and --low')
    return edits


def _measure(
    subject: Subject,
    path: str,
    edits: Sequence[Edit],
    title: str,
    force: bool,
    progress: Progress,
) -> Checkpoint:
    total = len(subject.indices)

    def advance(images: int) -> None:
        progress.advance(task, images)

    task = progress.add_task(f'{title}: images as they are', total=total)
    found = Checkpoint(path, subject.reader.name, subject.originals(advance, force))
    for edit in edits:
        before = 'read' if subject.path(edit).is_file() and not force else 'measured'
        progress.reset(task, total=total, description=f'{title}: {edit.name}')
        found.edited[edit.name] = subject.edited(edit, found.originals, advance, force)
        say(progress.console, f'{title}, {Path(path).name}: {edit.name} {before}')
    progress.remove_task(task)
    return found


def _write(
    args: argparse.Namespace,
    models: dict[str, list[Checkpoint]],
    edits: Sequence[str],
    console: Console,
) -> None:
    command = shlex.join(['python', *sys.argv])
    about = {key: value for key, value in vars(args).items() if key != 'force'}
    about['command'] = command
    notes = _notes(args, models, command)
    results = InterpretabilityResults(models, edits, args.threshold, about, notes)
    for title, table in results.tables().items():
        console.print(title, highlight=False)
        console.print(terminal_table(table))
    out = Path(args.out)
    write_atomically(out / 'interpretability.md', results.as_markdown())
    write_atomically(out / 'interpretability.json', json_text(results.as_json()))
    print(f'{out}: interpretability.md, interpretability.json')


def _notes(
    args: argparse.Namespace, models: dict[str, list[Checkpoint]], command: str
) -> list[str]:
    counts = sorted({len(c.originals.labels) for m in models.values() for c in m})
    maps = '; '.join(f'{title}: {found[0].maps}' for title, found in models.items())
    return [
        f'{", ".join(map(str, counts))} images, seed {args.seed}; maps normalised: '
        f'{args.normalization}; mean attention and mean latent.',
        f'Maps: {maps}.',
        f'`{command}`',
        '{cpu}, {cores} cores; {gpu}; torch {torch}, aib_mm {aib_mm}.'.format(
            **machine()
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), interpretability, argv)
