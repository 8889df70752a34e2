"""Table 8: the interpretability scores of trained models, beside the paper's."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from aib_mm.experiments.maps.interpretability import (
    InterpretabilityOptions,
    interpretability,
)
from aib_mm.experiments.progress import say
from aib_mm.experiments.report import Report
from aib_mm.experiments.reproduce.data import SETS
from aib_mm.experiments.reproduce.panels import Panel
from aib_mm.experiments.reproduce.results import Pair, PaperResults, comparison

#: Window sizes in pixels; radii of high and low frequencies; cosine similarity from
#: which attention is consistent, which the paper does not print.
SIZES, HIGH, LOW, THRESHOLD = (4, 8, 12, 16), 4.0, 12.0, 0.9


def scores_of(
    results: PaperResults, patches: Config, out: Path, console: Console, force: bool
) -> None:
    """Measure the trained models, print and write the tables.

    Args:
        results: results of the trainings.
        patches: config whose test images patches are cut from.
        out: folder of the table.
    """
    source = out / 'patches.py'
    patches.dump(str(source))
    tables, figures = {}, {}
    for panel in results.panels:
        title = SETS[panel.part.name].title
        models = _models(panel, results)
        if not models:
            continue
        found = figures[title] = _measure(
            models, str(source), out / panel.part.name, results.command, force
        )
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
    words = ['python', 'tools/interpretability.py', '--out', str(out / panel.part.name)]
    for row in panel.rows:
        folder = out.parent / panel.name(row)
        names = [f'seed{seed}/{panel.checkpoint(row)}' for seed in seeds]
        words += ['--model', str(folder / f'{row.name}.py')]
        words += [str(folder / name) for name in names]
    return shlex.join([*words, '--patches-from', str(out / 'patches.py')])


def _models(panel: Panel, results: PaperResults) -> list[list[str]]:
    """Config and checkpoints of every model that is trained."""
    models = []
    for row in panel.rows:
        done = [run for run in results.results if run.name == panel.name(row)]
        checkpoints = [
            str(run.work_dir / str(results.results[run].training.checkpoint))
            for run in done
        ]
        if done:
            models.append([str(done[0].config), *checkpoints])
    return models


def _measure(
    models: Sequence[Sequence[str]], patches: str, out: Path, command: str, force: bool
) -> dict[str, dict[str, list[float]]]:
    """Scores in percent of each checkpoint, by model and edit."""
    options = InterpretabilityOptions(
        model=models,
        title=(),
        out=str(out),
        device=None,
        cfg_options=(),
        force=force,
        level=None,
        images=None,
        seed=0,
        batch=100,
        command=command,
        sizes=SIZES,
        patches_from=patches,
        patch_fit='crop',
        high=[HIGH],
        low=[LOW],
        clip=False,
        threshold=[THRESHOLD],
        normalization='minmax',
        source=(),
    )
    interpretability(options)
    content = json.loads((out / 'interpretability.json').read_text(encoding='utf-8'))
    return {
        name: {
            edit: [
                100 * each['edits'][edit]['score'][str(THRESHOLD)]
                for each in checkpoints
            ]
            for edit in checkpoints[0]['edits']
        }
        for name, checkpoints in content['models'].items()
    }
