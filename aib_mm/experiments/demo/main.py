"""``tools/demo.py``: make the data, train, test, compare, draw."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from rich.console import Console

from aib_mm import digitscenes, hosts
from aib_mm.cli.common import guarded, integer
from aib_mm.errors import UsageError
from aib_mm.experiments.demo.models import MODELS
from aib_mm.experiments.demo.progress import make_progress
from aib_mm.experiments.demo.results import (
    as_json,
    make_table,
    report_sections,
)
from aib_mm.experiments.demo.runs import Outcome, Task, finished_training, test, train
from aib_mm.interpret.draw.report import write_report
from aib_mm.utils.files import json_text, write_atomically
from aib_mm.utils.tables import markdown, terminal_table
from aib_mm.version import __version__

PART = 'classification'
DATA_FACTS = ('name', 'version', 'seed', 'counts', 'sha256')
PLAIN_WIDTH = 120  # of the table where the output is no terminal

TITLE = 'Where the attention looks'
INTRODUCTION = (
    'Every image is one handwritten digit on a photograph, among strokes cut from '
    'other digits. The models are told the class and nothing else; where the attention '
    "lies is theirs to find. The outline is the digit's mask; no model has seen it."
)


def make_parser() -> argparse.ArgumentParser:
    """The options of the demo."""
    spec = digitscenes.DigitScenesSpec()
    parser = argparse.ArgumentParser(
        prog='demo.py',
        description='Make DigitScenes, train small classifiers with and without '
        'attention, compare them, and write a page that shows what they attend to.',
    )
    parser.add_argument(
        '--out', default='work_dirs/demo', help='folder of results (%(default)s)'
    )
    parser.add_argument(
        '--data',
        help='folder of DigitScenes (data/digitscenes; for other sizes '
        'data/digitscenes-TRAIN-TEST)',
    )
    parser.add_argument(
        '--models',
        nargs='+',
        choices=[model.name for model in MODELS],
        default=[model.name for model in MODELS if model.in_demo],
        metavar='NAME',
        help='which models (%(default)s); also: '
        + ', '.join(model.name for model in MODELS if not model.in_demo),
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=integer(0),
        default=[0],
        help='one training per model and seed; of several, mean and standard '
        'deviation are given (0)',
    )
    parser.add_argument(
        '--epochs', type=integer(1), help="epochs of training (the configs' own)"
    )
    parser.add_argument(
        '--train', type=integer(1), default=spec.train, help='images (%(default)s)'
    )
    parser.add_argument(
        '--test', type=integer(1), default=spec.test, help='images (%(default)s)'
    )
    parser.add_argument(
        '--cases',
        type=integer(0),
        default=8,
        help='right and wrong cases per model in the report (%(default)s each)',
    )
    parser.add_argument(
        '--device',
        choices=['auto', 'cpu', 'cuda'],
        default='auto',
        help='where to train (a GPU if there is one)',
    )
    parser.add_argument(
        '--force', action='store_true', help='train again what is already trained'
    )
    return parser


def demo(args: argparse.Namespace) -> None:
    """Run the demo as the options say.

    Raises:
        UsageError: the data cannot be made, or a part that it needs is not there.
    """
    started = time.perf_counter()
    device = _check_machine(args.device)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    models = [model for model in MODELS if model.name in args.models]
    out = Path(args.out).resolve()
    data = _make_data(args, console)
    meta = digitscenes.load_meta(data)
    tasks = [
        Task(
            model=model,
            seed=seed,
            data=data,
            checksum=meta['sha256'],
            work_dir=out / model.name / f'seed{seed}',
            device=device,
            epochs=args.epochs,
        )
        for seed in dict.fromkeys(args.seeds)
        for model in models
    ]
    outcomes = _run(tasks, args.force, console)
    about = _about(meta, outcomes, device)
    _write(out, outcomes, about, args.cases, console)
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    console.print(f'done in {minutes} min {seconds} s', highlight=False)


def _check_machine(device: str) -> str:
    host = hosts.status()['mmpretrain']
    if host.state != 'registered':
        raise UsageError(
            f'the demo trains with mmpretrain, which is {host.state}'
            f'{f" ({host.error})" if host.error else ""}: run make setup, or see '
            'python -m aib_mm doctor'
        )
    if device == 'cuda' and not torch.cuda.is_available():
        raise UsageError('--device cuda: torch sees no GPU; leave --device out')
    return get_device() if device == 'auto' else device


def _make_data(args: argparse.Namespace, console: Console) -> Path:
    progress = console.is_terminal
    spec = digitscenes.DigitScenesSpec(train=args.train, test=args.test)
    root = args.data
    if root is None:
        root = 'data/digitscenes'
        if spec != digitscenes.DigitScenesSpec():
            root += f'-{args.train}-{args.test}'
    root = Path(root).resolve()
    try:
        made = digitscenes.generate(root, spec, [PART], progress=progress)
    except digitscenes.SourceError as error:
        raise UsageError(
            f'{error}, or run make setup; all that the demo needs is in '
            'requirements/demo.txt'
        ) from error
    except digitscenes.SetError as error:
        raise UsageError(
            f'{error} (options of tools/digit_scenes.py; the demo takes another '
            'folder as --data)'
        ) from error
    state = 'made' if made[PART] else 'found'
    console.print(f'DigitScenes {state} in {root}', highlight=False)
    return root / PART


def _run(tasks: Sequence[Task], force: bool, console: Console) -> list[Outcome]:
    outcomes = []
    with make_progress(console) as progress:
        for task in tasks:
            training = None if force else finished_training(task)
            if training is None:
                training = train(task, progress)
            else:
                console.print(
                    f'train {task.name}: already done in {task.work_dir} '
                    '(--force trains again)',
                    highlight=False,
                )
            outcomes.append(test(task, training, progress))
    return outcomes


def _about(
    meta: dict[str, Any], outcomes: Sequence[Outcome], device: str
) -> dict[str, Any]:
    """What the numbers depend on besides the models."""
    return dict(
        data={key: meta[key] for key in DATA_FACTS},
        epochs=sorted({outcome.training.epochs for outcome in outcomes}),
        seeds=list(dict.fromkeys(outcome.task.seed for outcome in outcomes)),
        device=_device_name(device),
        cpus=len(os.sched_getaffinity(0)),
        torch=torch.__version__,
        aib_mm=__version__,
    )


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == 'cuda' else device


def _notes(about: dict[str, Any]) -> list[str]:
    data, counts = about['data'], about['data']['counts']
    seeds = about['seeds']
    epochs = ' or '.join(map(str, about['epochs']))
    spread = '; ± is the standard deviation over seeds' if len(seeds) > 1 else ''
    return [
        f'{data["name"]} {data["version"]}, seed {data["seed"]}: '
        f'{counts["train"]:,} training and {counts["test"]:,} test images, SHA-256 '
        f'{data["sha256"][:12]}….',
        f'{epochs} epoch{"s" * (epochs != "1")}, seed{"s" * (len(seeds) > 1)} '
        f'{", ".join(map(str, seeds))}{spread}.',
        f'Device {about["device"]}, {about["cpus"]} CPU cores, torch {about["torch"]}, '
        f'aib_mm {about["aib_mm"]}.',
    ]


def _write(
    out: Path,
    outcomes: Sequence[Outcome],
    about: dict[str, Any],
    cases: int,
    console: Console,
) -> None:
    table, notes = make_table(outcomes), _notes(about)
    console.print(terminal_table(table))
    for note in notes:
        console.print(note, highlight=False)
    write_atomically(out / 'results.json', json_text(as_json(outcomes, about)))
    write_atomically(out / 'results.md', markdown(table, notes))
    write_report(
        out / 'report.html',
        title=TITLE,
        introduction=INTRODUCTION,
        table=table,
        notes=notes,
        models=report_sections(outcomes, cases),
        classes=digitscenes.CLASSES,
    )
    for name in ('results.md', 'results.json', 'report.html'):
        console.print(f'wrote {out / name}', highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), demo, argv)
