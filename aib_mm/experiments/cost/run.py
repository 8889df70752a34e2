"""A benchmark: what configs cost beside the first, all in one process."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from aib_mm.errors import UsageError
from aib_mm.experiments.cost.model import CostModel, profiled
from aib_mm.experiments.cost.results import LAYOUTS, Cost, cost_table, count_table
from aib_mm.experiments.cost.timing import timed
from aib_mm.experiments.grid.rows import read_rows
from aib_mm.experiments.progress import make_console
from aib_mm.experiments.report import SUFFIXES, Report
from aib_mm.training.toolkits import toolkit_of
from aib_mm.utils.tables import Table


def benchmark(options: Namespace) -> None:
    """Measure or count as the program's options say; print the table and write it.

    Raises:
        UsageError: options that do not fit each other, or a config.
    """
    if options.count_only and options.layout != LAYOUTS[0]:
        raise UsageError(
            f'--layout {options.layout} is not for --count-only: leave it out'
        )
    for path in options.out:
        if path.suffix not in SUFFIXES:
            raise UsageError(f'--out writes {" and ".join(SUFFIXES)} files, got {path}')
    device = options.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    torch.set_num_threads(options.threads)
    rows = read_rows(options.configs, options.only, trained=False)
    configs = {row.title: row.load(options.cfg_options) for row in rows}
    for cfg in configs.values():
        toolkit_of(cfg)
    subjects = {
        title: CostModel(cfg, tuple(options.size), options.batch, device)
        for title, cfg in configs.items()
    }
    notes = [
        'GMAC: multiply-accumulates of convolutions and matrix products for one image '
        f'of {"x".join(map(str, options.size))}, in 10⁹.'
    ]
    profiles: dict[str, str] = {}
    if options.count_only:
        found = [subject.count() for subject in subjects.values()]
        table = count_table([*subjects], found)
    else:
        table, found, profiles = _measure(subjects, options)
        notes.append(_note(options, device))
    about = {key: getattr(options, key) for key in ('command', 'size', 'batch')}
    figures = [dict(config=n, **f) for n, f in zip(subjects, found, strict=True)]
    more = dict(about, device=device), dict(configs=figures)
    report = Report('benchmark', {'': table}, notes, *more)
    report.show(make_console())
    print('\n'.join(report.all_notes()))
    for mode, profile in profiles.items():
        print(f'\n{[*subjects][-1]}, {mode}:\n{profile}')
    for path in options.out:
        report.write_to(path)


def _measure(
    subjects: Mapping[str, CostModel], options: Namespace
) -> tuple[Table, list[dict[str, Any]], dict[str, str]]:
    """The table, the costs of each model by mode, and the last model's profiles."""
    modes: dict[str, int | None] = {f'test, L_a = {n}': n for n in options.samples}
    if not options.no_train:
        modes['training step'] = None
    models = [*subjects.values()]
    measured: dict[str, list[Cost]] = {}
    profiles = {}
    for mode, samples in modes.items():
        measured[mode] = _costs(models, samples, options.rounds, options.threads)
        if options.profile:
            profiles[mode] = profiled(models[-1].step(samples), options.profile)
    figures = [
        {'modes': [dict(mode=mode, **costs[i]) for mode, costs in measured.items()]}
        for i in range(len(models))
    ]
    return cost_table([*subjects], measured, options.layout), figures, profiles


def _costs(
    models: Sequence[CostModel], samples: int | None, rounds: int, threads: int
) -> list[Cost]:
    """What each model costs with so many samples at test, or None in training."""
    steps = [model.step(samples) for model in models]
    alone = [] if samples is None else [model.step(samples, True) for model in models]
    times = timed([*steps, *alone], rounds, threads)
    latencies = [wall for wall, _ in times[len(models) :]] or [[] for _ in models]
    return [
        dict(
            seconds=used if model.device == 'cpu' else wall,
            wall=wall,
            throughput=[model.batch / seconds for seconds in wall],
            latency=latency,
            memory=model.memory(step),
            macs=model.macs(step)['all'],
            parameters=model.parameters(),
        )
        for model, step, (wall, used), latency in zip(
            models, steps, times[: len(models)], latencies, strict=True
        )
    ]


def _note(options: Namespace, device: str) -> str:
    clock = 'CPU time of all threads' if device == 'cpu' else 'wall time'
    return (
        f'{clock} of {options.batch} images, median of {options.rounds} rounds; ratios '
        'are of the same round. Images/s, the batch at a time, and the time of one '
        'image alone are wall time, which other work on the machine makes worse. MiB: '
        "peak of the tensors, weights and in training the optimizer's state among "
        f'them. Threads: {options.threads}.'
    )
