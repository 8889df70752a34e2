"""The program behind ``tools/reproduce.py``."""

import itertools
import shlex
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from aib_mm.errors import UsageError
from aib_mm.experiments.grid.engine import INTERRUPTED, Engine, plan
from aib_mm.experiments.grid.guard import environments_of, locked, usable_gpus
from aib_mm.experiments.grid.notes import Run
from aib_mm.experiments.progress import make_console, say
from aib_mm.experiments.reproduce.data import SETS, Need, check_data
from aib_mm.experiments.reproduce.panels import DOMAINS, Changes, Panel, svhn_images
from aib_mm.experiments.reproduce.results import PaperResults
from aib_mm.experiments.reproduce.scores import command_of, scores_of
from aib_mm.experiments.reproduce.tables import TABLES, folder_of, paper_figures
from aib_mm.experiments.reproduce.weights import check_weights

SCORES = '8'  # the table that measures trained models


def run_reproduce(options: Namespace) -> int:
    """Reproduce a table as the program's options say; 0 only if every run is done.

    Trials keep out of the folder of the real runs.

    Raises:
        UsageError: data or weights that are missing, an option that does not fit;
            nothing was trained then.
    """
    console = make_console()
    changes = Changes(
        options.data_root, options.narrow, options.epochs, options.cfg_options
    )
    is_trial = options.any_data or changes.is_trial
    folder = Path(options.out or f'work_dirs/reproduce{"-trial" * is_trial}')
    panels, needs = _checked(_panels(options, changes), options)
    for need in needs:
        say(console, need.line())
    if options.dry_run:
        for command in dict.fromkeys(_commands(panels, options, folder)):
            print(command)
        return 0
    missing = [need.title for need in needs if need.problem]
    if missing:
        raise UsageError(
            f'table {options.table} needs {", ".join(missing)}, see above; --sets and '
            '--only leave data sets and rows out'
        )
    with locked(folder.resolve()):
        return _run(panels, options, folder.resolve(), console)


def _panels(options: Namespace, changes: Changes) -> list[Panel]:
    """The parts of the table that are wanted, with their rows.

    Raises:
        UsageError: a data set or a row that the table does not have.
    """
    parts = TABLES[options.table]
    names = [part.name for part in parts]
    for name in options.sets:
        if name not in names:
            raise UsageError(
                f'--sets {name}: table {options.table} has {", ".join(names)}'
            )
    parts = [part for part in parts if not options.sets or part.name in options.sets]
    for part in parts:
        if part.trained_on and part.trained_on not in (each.name for each in parts):
            raise UsageError(
                f'--sets {part.name} tests the models of {part.trained_on}: name it too'
            )
    read = [Panel.read(part, options.only, changes) for part in parts]
    panels = [panel for panel in read if panel is not None]
    known = {row.name for panel in panels for row in panel.rows}
    for name in options.only:
        if name not in known:
            raise UsageError(
                f'--only {name}: table {options.table} has no such row'
                + (f'; there are {", ".join(sorted(known))}' if known else '')
            )
    return panels


def _checked(
    panels: Sequence[Panel], options: Namespace
) -> tuple[list[Panel], list[Need]]:
    """The parts with the number of their images, and everything that they need."""
    root, any_data = options.data_root, options.any_data
    found, needs = [], []
    for panel in panels:
        cfg = panel.config(panel.rows[0])
        need = check_data(panel.part.name, cfg, root, any_data)
        found.append(replace(panel, images=need.images))
        needs.append(need)
    if options.table == SCORES:
        needs.append(check_data('svhn', svhn_images(root), root, any_data))
    configs = [
        (row.config, panel.config(row))
        for panel in panels
        if not panel.part.trained_on
        for row in panel.rows
    ]
    return found, [*needs, *check_weights(configs)]


def _commands(
    panels: Sequence[Panel], options: Namespace, folder: Path
) -> Iterator[str]:
    """Command of every run by itself, for a shell."""
    for panel, seed in itertools.product(panels, options.seeds):
        for row in panel.rows:
            if panel.part.trained_on:
                run = folder / panel.part.trained_on / row.name / f'seed{seed}'
                words = [row.config, str(run / panel.checkpoint(row))]
                words += ['--domains', DOMAINS]
                yield shlex.join(['python', 'tools/cross_domain.py', *words])
                continue
            work_dir = folder / panel.name(row) / f'seed{seed}'
            command = row.command(str(work_dir), seed, panel.options(row))
            stand_in = panel.narrow.get(row.name)
            yield command + (f'  # model of {stand_in.config}' if stand_in else '')
    if options.table == SCORES:
        for panel in panels:
            yield command_of(panel, folder / folder_of(SCORES), options.seeds)


def _run(
    panels: Sequence[Panel], options: Namespace, folder: Path, console: Console
) -> int:
    gpus = usable_gpus()
    environments = environments_of(options.jobs or len(gpus) or 1, gpus)
    say(
        console,
        f'{len(environments)} run{"s" * (len(environments) > 1)} at a time on '
        + (f'{len(gpus)} GPU{"s" * (len(gpus) > 1)}' if gpus else 'the CPU'),
    )
    out = folder / folder_of(options.table)
    trained = _configs(panel for panel in panels if not panel.part.trained_on)
    results = PaperResults(
        titles={panel.name(row): row.title for panel in panels for row in panel.rows},
        runs=plan(trained, options.seeds, folder),
        command=options.command,
        jobs=len(environments),
        threads=environments[0]['OMP_NUM_THREADS'],
        remarks=[*_remarks(panels, options)],
        panels=panels,
        figures=paper_figures(options.table),
    )
    engine = Engine(
        results, out, environments, console, table=f'{folder_of(options.table)}.md'
    )
    code = engine(options.force)
    tests = _tests(panels, results, options.seeds, folder)
    if tests and code != INTERRUPTED:
        results.runs = [*results.runs, *tests]
        code = engine(options.force)
    if options.table == SCORES and code != INTERRUPTED:
        patches = svhn_images(options.data_root)
        read = options.read_scores
        scores_of(results, patches, out, console, read, options.force)
    return code


def _configs(panels: Iterable[Panel]) -> dict[str, Config]:
    return {
        panel.name(row): panel.config(row) for panel in panels for row in panel.rows
    }


def _tests(
    panels: Sequence[Panel], results: PaperResults, seeds: Sequence[int], folder: Path
) -> list[Run]:
    """Tests of trained models on other data, of those that are trained."""
    tested = [panel for panel in panels if panel.part.trained_on]
    on = {panel.part.name: panel.part.trained_on for panel in tested}
    done = {(run.name, run.seed): run for run in results.results}
    runs = []
    for run in plan(_configs(tested), seeds, folder):
        data, _, row = run.name.partition('/')
        source = done.get((f'{on[data]}/{row}', run.seed))
        if source is not None:
            checkpoint = results.results[source].training.checkpoint
            runs.append(replace(run, checkpoint=source.work_dir / str(checkpoint)))
    return runs


def _remarks(panels: Sequence[Panel], options: Namespace) -> Iterator[str]:
    """What a reader must know before the figures."""
    yield (
        "The column 'the paper' is the paper's own, transcribed; 'difference' is ours "
        "less the paper's. A dash: the paper prints none, or no run is done."
    )
    if options.narrow:
        yield 'A TRIAL: narrow models from random weights, not those of the paper.'
    if options.epochs is not None:
        plural = 's' * (options.epochs > 1)
        yield f'A TRIAL: {options.epochs} epoch{plural}, not the schedule of the paper.'
    if options.cfg_options:
        yield f'Other settings: {shlex.join(options.cfg_options)}.'
    if options.any_data:
        titles = ', '.join(SETS[panel.part.name].title for panel in panels)
        yield f'{titles}: the number of images was not compared with the published one.'
