"""The table of localisation: do maps lie on the object, the prediction on the maps?"""

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aib_mm.errors import UsageError
from aib_mm.experiments.maps.model import OWN, MapModel
from aib_mm.experiments.maps.subjects import (
    Arrays,
    Batch,
    Subject,
    read_subjects,
    report,
)
from aib_mm.experiments.progress import make_console, make_progress
from aib_mm.interpret.measure.faithfulness import (
    curve_area,
    deletion_curve,
    insertion_curve,
)
from aib_mm.interpret.measure.localization import (
    ON_OBJECT,
    ObjectSettings,
    check_threshold,
    measure_on_object,
)
from aib_mm.interpret.measure.regions import MaskRegion
from aib_mm.interpret.record.geometry import resize_map
from aib_mm.utils.tables import Column, Table, percent_cell

#: Of the network's input: the mean colour, where the data preprocessor subtracts it.
BASELINE = 0.0
#: Measures of a map by the prediction that it carries: areas under these curves.
CURVES = {'insertion': insertion_curve, 'deletion': deletion_curve}
#: Heads of the table's columns, by measure.
HEADS = {name: one.head for name, one in ON_OBJECT.items() if one.head} | {
    name: name for name in CURVES
}


def localization(options: Namespace) -> None:
    """Measure what is not measured yet, print and write the table.

    Raises:
        UsageError: an option that does not fit a model, data samples without a mask.
        CheckpointError: an unusable checkpoint, or one that lacks weights.
    """
    try:
        check_threshold('--threshold', options.threshold)
    except ValueError as error:
        raise UsageError(str(error)) from error
    progress = make_progress(make_console())
    models = read_subjects(options, progress, 'maps', _wanted, options.window)
    # All of them are tried before any is measured.
    for subject in (subject for found in models.values() for subject in found):
        _check(subject, options)
    with progress:
        figures = {
            title: [_figures(subject, options) for subject in subjects]
            for title, subjects in models.items()
        }
    tables = {'': _table(figures)}
    report('localization', options, tables, _notes(options, figures), figures)


def _wanted(model: MapModel, names: Sequence[str]) -> list[str]:
    names = [name for name in names if name != OWN or model.attends]
    if not names:
        raise UsageError(f'{model.cfg.filename} has no attention; name other --maps')
    return names


def _check(subject: Subject, options: Namespace) -> None:
    """Try the measures on the first image."""
    try:
        _measure(subject, subject.maps[0], options, *next(subject.batches(1)))
    except (KeyError, ValueError) as error:
        raise UsageError(f'{subject.model.cfg.filename}: {error.args[0]}') from error


def _figures(subject: Subject, options: Namespace) -> dict[str, Any]:
    """All figures of a checkpoint, shares in [0, 1]; NaN where no image has one."""
    model = subject.model
    maps, of_images = {}, {}
    for name in subject.maps:
        identity = [options.threshold, options.tolerance, options.steps]
        found = subject.kept(
            name,
            [model.identity(name), identity],
            ['labels', 'predicted', *ON_OBJECT, *CURVES],
            partial(_measure, subject, name, options),
            label=name,
        )
        maps[name] = dict(title=model.title(name), **_means(found, HEADS))
        of_images = dict(
            images=len(found['labels']),
            without_object=int(np.isnan(found['area']).sum()),
            accuracy=float((found['labels'] == found['predicted']).mean()),
            **_means(found, [key for key in ON_OBJECT if key not in HEADS]),
        )
    return dict(checkpoint=model.checkpoint, **of_images, maps=maps)


def _measure(
    subject: Subject,
    name: str,
    options: Namespace,
    batch: Batch,
    indices: Sequence[int],
) -> dict[str, Tensor]:
    """Classes and every measure of the images of a batch, ``(B,)`` each.

    What is measured against the object is NaN for an image without one.
    """
    look = subject.model.look(name, batch, indices)
    maps, region = look.maps.unsqueeze(1), MaskRegion()
    settings = ObjectSettings(options.tolerance, options.threshold)
    on_object = []
    for attention, sample in zip(maps, batch['data_samples'], strict=True):
        # Of the size of its mask.
        placed, mask = region(attention, sample.to_dict())
        on_object.append(measure_on_object(placed[None], mask[None], settings))
    found = {key: torch.cat([one[key] for one in on_object]) for key in ON_OBJECT}
    found |= dict(labels=look.labels, predicted=look.predicted)
    height, width = look.inputs.shape[-2:]
    maps = resize_map(maps, (height, width)).to(look.inputs.device)
    for key, curve in CURVES.items():
        images = (look.inputs, maps, BASELINE, look.predicted)
        scores = curve(subject.model.predict, *images, options.steps)
        found[key] = curve_area(scores)
    return found


def _means(found: Arrays, keys: Iterable[str]) -> dict[str, float]:
    """Means of the values that are not NaN; NaN where there are none."""
    return {key: torch.from_numpy(found[key]).nanmean().item() for key in keys}


def _table(models: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """A row for each model and map; percent, mean ± sample standard deviation."""
    rows = []
    for title, checkpoints in models.items():
        for name, one in checkpoints[0]['maps'].items():
            cells = [
                percent_cell([found['maps'][name][key] for found in checkpoints])
                for key in HEADS
            ]
            rows.append([title, one['title'], *cells])
    heads = ['model', 'map', *(f'{head} %' for head in HEADS.values())]
    return Table([Column(head) for head in heads], rows)


def _notes(options: Namespace, models: Mapping[str, Any]) -> list[str]:
    first = next(iter(models.values()))[0]
    area, chance = (100 * first[key] for key in ('area', 'chance'))
    return [
        f'{first["images"]} images, seed {options.seed}; mean attention and mean '
        f'latent. Objects cover {area:.2f} % of them: the energy, and the IoU, of a '
        f'map without preference; {chance:.2f} % count as a hit.',
        f"IoU of the positions from {options.threshold:g} of the map's range on; "
        f'pointing game within {options.tolerance} px; areas under {options.steps} '
        'steps of insertion (higher is better) and deletion (lower is better) of the '
        'predicted class.',
    ]
