"""The program behind ``tools/demo.py``: a grid on DigitScenes, and a page."""

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from rich.console import Console

from aib_mm import digitscenes, hosts
from aib_mm.errors import UsageError
from aib_mm.experiments.demo.cases import CASES, make_section
from aib_mm.experiments.grid.engine import Engine, plan
from aib_mm.experiments.grid.guard import (
    NO_GPU,
    environments_of,
    locked,
    usable_cores,
)
from aib_mm.experiments.grid.results import (
    TIMES,
    GridResults,
    Measure,
    metric,
    top1_error,
)
from aib_mm.experiments.grid.rows import Row, read_rows
from aib_mm.experiments.progress import make_console, say
from aib_mm.interpret.draw.page import write_page
from aib_mm.utils.shipped import shipped

PART = 'classification'
#: Grid files whose rows ``--models`` names.
GRIDS = (
    'configs/mmpretrain/grids/demo_digitscenes.py',
    'configs/mmpretrain/grids/selectivity_digitscenes.py',
)
LOG_INTERVAL = 10  # iterations

TITLE = 'Where the attention looks'
INTRODUCTION = (
    'Every image is one handwritten digit on a photograph, among strokes cut from '
    'other digits. The models are told the class and nothing else; where the attention '
    "lies is theirs to find. The outline is the digit's mask; no model has seen it."
)

_TRAIN, _TEST = TIMES
#: Columns of the table.
MEASURES = (
    Measure(
        'error',
        'error %',
        2,
        top1_error,
        'Share of test images whose highest score is not the true class.',
    ),
    Measure(
        'kl_nats',
        'KL nats',
        1,
        metric('latent/kl_nats'),
        'Divergence of the latent from N(0, I), summed over its dimensions, mean over '
        'images: an upper bound on what the latent tells of the image.',
    ),
    Measure(
        'on_digit',
        'attention on digit %',
        1,
        metric('attention/energy', 100),
        'Share of the mean attention, its minimum taken off, that lies on the digit.',
    ),
    Measure(
        'digit_area',
        'digit area %',
        1,
        metric('attention/area', 100),
        "The digit's share of the image: what attention without preference would get.",
    ),
    Measure(
        'pointing',
        'pointing %',
        1,
        metric('attention/pointing', 100),
        'Pointing game: how often the maximum of the mean attention falls on the '
        'digit, one pixel of tolerance.',
    ),
    Measure(
        'chance',
        'by chance %',
        1,
        metric('attention/chance', 100),
        'Pointing game of a random position.',
    ),
    Measure(
        'bits_on_digit',
        'bits on digit %',
        1,
        metric('bits/energy', 100),
        'Likewise of the bits that the map lets through, where they have a price.',
    ),
    _TRAIN,
    Measure(
        'train_speed',
        'train img/s',
        0,
        lambda result: result.training.speed,
        'Training images a second, forward and backward, without the time to start.',
    ),
    Measure(
        'train_memory',
        'GPU MiB',
        0,
        lambda result: result.training.memory,
        "Peak of the GPU's memory in training.",
    ),
    _TEST,
)


def run_demo(options: Namespace) -> int:
    """Run the demo as the program's options say; 0 only if every run is done.

    Raises:
        UsageError: the data cannot be made, or a part that it needs is not there.
    """
    started = time.perf_counter()
    console = make_console()
    out = Path(options.out).resolve()
    say(console, f'results go to {out}')
    device = _check_machine(options.device)
    rows = read_rows([*map(str, map(shipped, GRIDS))], options.models, '--models')
    data = _make_data(options, console)
    # What begins with another's weights is as short as it is.
    configs = {
        row.name: make_config(row, data, None if row.load_from else options.epochs)
        for row in rows
    }
    about: dict[str, Any] = dict(
        data=digitscenes.load_meta(data),
        epochs=sorted({cfg.train_cfg.max_epochs for cfg in configs.values()}),
        device=device,
    )
    facts = dict(data=about['data']['sha256'], leaves=f'test/{CASES}')
    with locked(out):
        load_from = {row.name: row.load_from for row in rows}
        runs = plan(configs, options.seeds, out, load_from, **facts)
        # Side by side small models leave less idle than with many threads each.
        jobs = 1 if device == 'cuda' else min(len(runs), usable_cores())
        environments = environments_of(jobs, [NO_GPU] if device == 'cpu' else [])
        results = GridResults(
            titles={row.name: row.title for row in rows},
            runs=runs,
            command=options.command,
            jobs=jobs,
            threads=environments[0]['OMP_NUM_THREADS'],
            measures=MEASURES,
            heads=['model'],
            about=about,
            remarks=[_remark(about)],
        )
        engine = Engine(results, out, environments, console, table='results.md')
        code = engine(options.force)
        _write_page(out / 'report.html', results, rows, data, options.cases)
    say(console, f'wrote {out / "report.html"}')
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    say(console, f'ended after {minutes} min {seconds} s')
    return code


def make_config(row: Row, data: Path, epochs: int | None = None) -> Config:
    """The shipped config on the demo's data, keeping its test cases.

    Args:
        data: folder of the classification part of DigitScenes.
        epochs: number instead of the config's; the schedule is stretched to it.
    """
    cfg = row.load()
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(data)
    # The demo tests once, after training.
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.default_hooks.logger.interval = LOG_INTERVAL
    cfg.default_hooks.cases = dict(type='CasesHook')
    imports = dict(cfg.get('custom_imports') or {}).get('imports', [])
    cfg.custom_imports = dict(imports=[*imports, 'aib_mm.experiments.demo.cases'])
    if epochs is not None:
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        schedules = cfg.param_scheduler
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            if 'total_steps' in schedule:
                schedule.total_steps = epochs
    return cfg


def _check_machine(device: str) -> str:
    """What the runs compute on: ``'cpu'`` or ``'cuda'``."""
    host = hosts.register_hosts(['mmpretrain'])['mmpretrain']
    if host.state != 'registered':
        raise UsageError(
            f'the demo trains with mmpretrain, which is {host.state}'
            f'{f" ({host.error})" if host.error else ""}: run make setup, or see '
            'python -m aib_mm doctor'
        )
    found = torch.cuda.is_available()
    if device == 'cuda' and not found:
        raise UsageError('--device cuda: torch sees no GPU; leave --device out')
    return 'cuda' if found and device != 'cpu' else 'cpu'


def _make_data(options: Namespace, console: Console) -> Path:
    spec = digitscenes.DigitScenesSpec(train=options.train, test=options.test)
    other = spec != digitscenes.DigitScenesSpec()
    size = f'-{options.train}-{options.test}' if other else ''
    root = Path(options.data or f'data/digitscenes{size}').resolve()
    say(console, f'DigitScenes in {root}')
    try:
        digitscenes.generate(root, spec, [PART], progress=console.is_terminal)
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
    return root / PART


def _remark(about: Mapping[str, Any]) -> str:
    data, epochs = about['data'], about['epochs']
    return (
        f'{data["name"]} {data["version"]}, seed {data["seed"]}: '
        f'{data["counts"]["train"]:,} training and {data["counts"]["test"]:,} test '
        f'images, SHA-256 {data["sha256"][:12]}…; {" or ".join(map(str, epochs))} '
        f'epoch{"s" * (epochs != [1])}; device {about["device"]}.'
    )


def _write_page(
    path: Path, results: GridResults, rows: Sequence[Row], data: Path, count: int
) -> None:
    """The table, and cases of each model's first seed that is done."""
    sections = []
    for row in rows:
        done = [run for run in results.results if run.name == row.name]
        for run in sorted(done, key=results.runs.index)[:1]:
            with np.load(run.work_dir / run.leaves) as cases:
                sections.append(
                    make_section(row.title, row.about, dict(cases), data, count)
                )
    write_page(
        path,
        title=TITLE,
        lead=INTRODUCTION,
        sections=sections,
        classes=digitscenes.CLASSES,
        table=results.table(),
        notes=results.report().all_notes(),
        value_range=(0, 1),
    )
