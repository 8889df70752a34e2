"""Table 8: the interpretability scores of trained models, beside the paper's."""

import shlex
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from aib_mm.experiments.maps.interpretability import score_maps
from aib_mm.experiments.progress import say
from aib_mm.experiments.report import Report
from aib_mm.experiments.reproduce.data import SETS
from aib_mm.experiments.reproduce.panels import Panel
from aib_mm.experiments.reproduce.results import Pair, PaperResults, comparison

#: Radii of high and low frequencies; cosine similarity from which attention is
#: consistent, which the paper does not print. Else the program's own settings.
SETTINGS, THRESHOLD = ('--high', '4', '--low', '12', '--threshold'), '0.9'


def scores_of(
    results: PaperResults,
    patches: Config,
    out: Path,
    console: Console,
    read: Callable[[Sequence[str]], Namespace],
    force: bool,
) -> None:
    """Measure the trained models, print and write the tables.

    Args:
        results: results of the trainings.
        patches: config whose test images patches are cut from.
        out: folder of the table.
        read: what makes options of ``tools/interpretability.py`` of their words.
        force: measure again what is already measured.
    """
    patches.dump(str(out / 'patches.py'))
    tables, figures = {}, {}
    for panel in results.panels:
        title = SETS[panel.part.name].title
        models = _models(panel, results)
        if not models:
            continue
        options = read([*_words(panel, models, out), *SETTINGS, THRESHOLD])
        options.command, options.force = results.command, force
        found = figures[title] = {
            name: {
                edit: [100 * one['edits'][edit]['score'][THRESHOLD] for one in every]
                for edit in every[0]['edits']
            }
            for name, every in score_maps(options).items()
        }
        for column, of_paper in results.figures.items():
            data, _, edit = column.partition(', ')
            if data == title:
                pairs = [
                    Pair(row.title, of_paper.get(row.name), found[row.name][edit])
                    for row in panel.rows
                    if row.name in found
                ]
                tables[f'{column}, interpretability score, %'] = comparison(pairs, 2)
    notes = [
        f'Attention counts as consistent from a cosine similarity of {THRESHOLD} on: '
        "this threshold is ours, the paper prints none. A patch is of SVHN's test set."
    ]
    about = dict(command=results.command)
    report = Report('scores', tables, notes, about, dict(scores=figures))
    report.show(console)
    say(console, report.write(out))


def command_of(panel: Panel, out: Path, seeds: Sequence[int]) -> str:
    """Command that measures the models of a part by itself, for a shell."""
    models = []
    for row in panel.rows:
        names = [f'seed{seed}/{panel.checkpoint(row)}' for seed in seeds]
        folder = out.parent / panel.name(row)
        models.append([str(folder / name) for name in (f'{row.name}.py', *names)])
    words = ['python', 'tools/interpretability.py', *_words(panel, models, out)]
    return shlex.join(words)


def _words(panel: Panel, models: Sequence[Sequence[str]], out: Path) -> list[str]:
    """What ``tools/interpretability.py`` is told of the models of a part."""
    words = ['--out', str(out / panel.part.name)]
    for files in models:
        words += ['--model', *files]
    return [*words, '--patches-from', str(out / 'patches.py')]


def _models(panel: Panel, results: PaperResults) -> list[list[str]]:
    """Config and checkpoints of every model that is trained."""
    models = []
    for row in panel.rows:
        done = [run for run in results.results if run.name == panel.name(row)]
        names = [results.results[run].training.checkpoint for run in done]
        paths = [str(run.work_dir / str(n)) for run, n in zip(done, names, strict=True)]
        if done:
            models.append([str(done[0].config), *paths])
    return models
