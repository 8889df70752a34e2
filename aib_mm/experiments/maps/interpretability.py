"""The paper's Table 8: does attention stay where it is on edited images?"""

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aib_mm.diagnosis.configs import load_config
from aib_mm.errors import UsageError
from aib_mm.experiments.maps.data import DatasetImages, loads_bgr
from aib_mm.experiments.maps.model import OWN, MapModel
from aib_mm.experiments.maps.subjects import (
    Arrays,
    Batch,
    Subject,
    read_subjects,
    report,
)
from aib_mm.experiments.progress import make_console, make_progress
from aib_mm.interpret.measure.consistency import (
    consistency_area,
    consistency_curve,
    consistency_score,
    map_similarity,
)
from aib_mm.interpret.measure.edits import (
    ColorBlock,
    Edit,
    Frequencies,
    Patch,
    generator_for,
)
from aib_mm.interpret.record.class_activation import check_library
from aib_mm.utils.libraries import MissingLibraryError
from aib_mm.utils.tables import Column, Table, percent_cell

#: What is kept of the images as they are.
ORIGINALS = ('labels', 'predicted', 'maps')
#: Thresholds of the curve in the JSON.
CURVE = [round(0.01 * step, 2) for step in range(101)]


def interpretability(options: Namespace) -> None:
    """The program: ``score_maps`` as its options say."""
    score_maps(options)


def score_maps(options: Namespace) -> dict[str, list[dict[str, Any]]]:
    """Measure what is not measured yet, print and write the tables.

    Returns:
        Figures of each checkpoint, shares in [0, 1], by the model's title.

    Raises:
        UsageError: an option that does not fit the others or a model.
        CheckpointError: an unusable checkpoint, or one that lacks weights.
    """
    progress = make_progress(make_console())
    models = read_subjects(options, progress, 'source', _wanted)
    # All of them are tried before any is measured.
    edits = {title: _edits(options, found[0]) for title, found in models.items()}
    with progress:
        figures = {
            title: [_figures(subject, edits[title], options) for subject in subjects]
            for title, subjects in models.items()
        }
    tables, notes = _tables(figures, options.threshold), _notes(options, figures)
    name = 'interpretability'
    report(name, options, tables, notes, figures, curve_thresholds=CURVE)
    return figures


def _wanted(model: MapModel, found: Sequence[str]) -> list[str]:
    """The model's source: unless named its attention, else Grad-CAM."""
    if len(found) > 1:
        raise UsageError(
            f'--source: one for {model.cfg.filename}, got {", ".join(found)}'
        )
    if found or model.attends:
        return [*(found or [OWN])]
    try:
        check_library()
    except MissingLibraryError as error:
        raise UsageError(f'{model.cfg.filename} has no attention; {error}') from error
    return ['gradcam']


def _edits(options: Namespace, subject: Subject) -> list[Edit]:
    """The columns of the table, in its order, each tried on the first image."""
    cfg = subject.model.cfg
    edits: list[Edit] = [ColorBlock(size) for size in options.sizes]
    if options.patches_from is not None:
        other = load_config(options.patches_from, None)
        other.setdefault('default_scope', cfg.default_scope)  # a data set's file alone
        source = DatasetImages(other, flip=loads_bgr(other) != loads_bgr(cfg))
        edits += [Patch(size, source, options.patch_fit) for size in options.sizes]
    edits += [Frequencies(radius, True, options.clip) for radius in options.high]
    edits += [Frequencies(radius, False, options.clip) for radius in options.low]
    if not edits:
        raise UsageError('no edits: give at least one of --sizes, --high and --low')
    batch, indices = next(subject.batches(1))
    for edit in edits:
        try:
            _edited(batch, indices, edit, options.seed)
        except ValueError as error:
            name = f'{edit.name} of the images of {cfg.filename}'
            raise UsageError(f'{name}: {error}') from error
    return edits


def _edited(batch: Batch, indices: Sequence[int], edit: Edit, seed: int) -> Batch:
    """The batch with its images edited."""
    inputs = [
        edit(image.float(), generator_for(seed, edit.name, index))
        for image, index in zip(batch['inputs'], indices, strict=True)
    ]
    return dict(batch, inputs=inputs)


def _figures(
    subject: Subject, edits: Sequence[Edit], options: Namespace
) -> dict[str, Any]:
    """All figures of a checkpoint, shares in [0, 1]; NaN where there is no score."""
    model, (name,) = subject.model, subject.maps
    identity = [model.identity(name)]

    def look(batch: Batch, indices: Sequence[int]) -> dict[str, Tensor]:
        found = model.look(name, batch, indices)
        return {key: getattr(found, key) for key in ORIGINALS}

    def compare(edit: Edit, batch: Batch, indices: Sequence[int]) -> dict[str, Tensor]:
        batch = _edited(batch, indices, edit, options.seed)
        found = model.look(name, batch, indices)
        maps = originals['maps'][np.searchsorted(subject.indices, indices)]
        similarity = map_similarity(
            torch.from_numpy(maps), found.maps, options.normalization
        )
        return dict(predicted=found.predicted, similarity=similarity)

    originals = subject.kept('originals', identity, ORIGINALS, look)
    edited = {
        edit.name: subject.kept(
            'edited',
            [*identity, _identity(edit), options.normalization],
            ['predicted', 'similarity'],
            partial(compare, edit),
            label=edit.name,
        )
        for edit in edits
    }
    return dict(
        checkpoint=model.checkpoint,
        maps=model.words(name),
        images=len(originals['labels']),
        accuracy=(originals['predicted'] == originals['labels']).mean(),
        edits={
            name: _figures_of(arrays, originals, options.threshold)
            for name, arrays in edited.items()
        },
    )


def _identity(edit: Edit) -> list[Any]:
    """What an edit is, in plain containers."""
    settings = vars(edit).values()
    return [edit.name, *(getattr(value, 'identity', value) for value in settings)]


def _figures_of(
    edited: Arrays, originals: Arrays, thresholds: Sequence[float]
) -> dict[str, Any]:
    """Figures of a checkpoint on an edit of the images."""
    same = edited['predicted'] == originals['predicted']
    pair = torch.from_numpy(edited['similarity']), torch.from_numpy(same)
    return dict(
        accuracy=(edited['predicted'] == originals['labels']).mean(),
        prediction_consistent=same.mean(),
        score={str(t): consistency_score(*pair, t) for t in thresholds},
        area=consistency_area(*pair),
        curve=consistency_curve(*pair, CURVE),
    )


def _tables(
    models: Mapping[str, Sequence[Mapping[str, Any]]], thresholds: Sequence[float]
) -> dict[str, Table]:
    """Tables by title, models by edits; percent, mean ± standard deviation.

    A checkpoint of which no prediction is consistent has no score, and is left out.
    """

    def table(value: Callable[[Mapping[str, Any]], float], *more: str) -> Table:
        rows = []
        for title, checkpoints in models.items():
            every = [
                [*(found[key] for key in more), *map(value, found['edits'].values())]
                for found in checkpoints
            ]
            rows.append([title, *map(percent_cell, zip(*every, strict=True))])
        names = next(iter(models.values()))[0]['edits']
        return Table([Column(head) for head in ('model', *more, *names)], rows)

    def scores(threshold: float) -> Table:
        return table(lambda figures: figures['score'][str(threshold)])

    consistent = itemgetter('prediction_consistent')
    return {
        **{
            f'Interpretability score, %, threshold {t:g}': scores(t) for t in thresholds
        },
        'Area under the score over all thresholds, %': table(itemgetter('area')),
        'Consistent predictions, %': table(consistent, 'accuracy'),
    }


def _notes(options: Namespace, models: Mapping[str, Any]) -> list[str]:
    counts = sorted({found['images'] for model in models.values() for found in model})
    maps = '; '.join(f'{title}: {found[0]["maps"]}' for title, found in models.items())
    return [
        f'{", ".join(map(str, counts))} images, seed {options.seed}; maps normalised: '
        f'{options.normalization}; mean attention and mean latent.',
        f'Maps: {maps}.',
    ]
