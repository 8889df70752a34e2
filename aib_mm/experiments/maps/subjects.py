"""Trained models on their test images; what is measured of them is kept in files."""

import io
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from rich.progress import Progress
from torch import Tensor

from aib_mm.diagnosis.configs import load_config
from aib_mm.experiments.maps.data import build_test_set, choose_images, image_batches
from aib_mm.experiments.maps.model import MapModel
from aib_mm.experiments.maps.options import TableOptions
from aib_mm.experiments.progress import say
from aib_mm.experiments.provenance import fingerprint
from aib_mm.training.checkpoint import check_checkpoint
from aib_mm.utils.files import file_name, write_atomically

Batch = dict[str, list]
Arrays = Mapping[str, np.ndarray]
#: A batch and the indices of its images to arrays ``(B, ...)`` by name.
Measure = Callable[[Batch, Sequence[int]], Mapping[str, Tensor]]


@dataclass
class Subject:
    """One checkpoint on the test images of its config.

    Attributes:
        model: trained model of config and checkpoint.
        maps: names of those measured, see ``MapModel``; each is tried on an image.
        dataset: data set from ``build_test_set``.
        options: options of the table.
        progress: shows how many images are done.

    Raises:
        UsageError: a map cannot be made.
    """

    model: MapModel
    maps: Sequence[str]
    dataset: BaseDataset
    options: TableOptions
    progress: Progress

    def __post_init__(self) -> None:
        self.model.prepare(self.maps, self.dataset[0])

    @cached_property
    def indices(self) -> list[int]:
        """The images that are measured, in rising order."""
        return choose_images(len(self.dataset), self.options.images, self.options.seed)

    def batches(self, size: int) -> Iterator[tuple[Batch, Sequence[int]]]:
        """These images, with their indices."""
        return image_batches(self.model.cfg, self.dataset, self.indices, size)

    def kept(
        self,
        kind: str,
        identity: Sequence[Any],
        keys: Collection[str],
        measure: Measure,
        label: str = '',
    ) -> Arrays:
        """What an earlier run left, or what is measured now, and left for the next.

        Args:
            kind: beginning of the file's name.
            identity: what the arrays depend on beside config, data set and images, in
                plain containers.
            keys: names of the arrays.
            measure: called with every batch; the arrays are joined.
            label: what is measured, for people; nothing is said without.
        """
        cfg, options = self.model.cfg, self.options
        stem = Path(cfg.filename).stem
        key = fingerprint(
            cfg.model.to_dict(),
            cfg.test_dataloader.dataset.to_dict(),
            [options.seed, options.images],
            *identity,
        )
        name = file_name(f'{stem}-{kind.replace(":", "_")}-{key[:16]}')
        path = Path(options.out) / 'measured' / f'{name}.npz'
        checkpoint = Path(self.model.checkpoint).name
        name = f'{options.titles[stem]}, {checkpoint}: {label}'
        found = None if options.force else read_arrays(path, keys)
        how = 'read'
        if found is None:
            found, how = self._measured(measure, name), 'measured'
            write_arrays(path, found)
        if label:
            say(self.progress.console, f'{name} {how}')
        return found

    def _measured(self, measure: Measure, name: str) -> Arrays:
        task = self.progress.add_task(name, total=len(self.indices))
        parts: dict[str, list[Tensor]] = {}
        for batch, indices in self.batches(self.options.batch):
            for key, values in measure(batch, indices).items():
                parts.setdefault(key, []).append(values.cpu())
            self.progress.advance(task, len(indices))
        self.progress.remove_task(task)
        return {key: torch.cat(values).numpy() for key, values in parts.items()}


def read_subjects(
    options: TableOptions,
    progress: Progress,
    wanted: Callable[[MapModel], Sequence[str]],
    window: int | None = None,
) -> dict[str, list[Subject]]:
    """Every model that a table asks for, by its title; its maps tried on an image.

    Args:
        options: options of the table.
        progress: progress of all subjects.
        wanted: function from a model to the names of the maps to measure.
        window: side of the occlusion in pixels, see ``MapModel``.

    Raises:
        UsageError: a config, its test set or an option that cannot be used.
        CheckpointError: an unusable checkpoint, or one that lacks weights.
    """
    for _, *checkpoints in options.model:
        for checkpoint in checkpoints:
            check_checkpoint(checkpoint)
    subjects = {}
    for config, *checkpoints in options.model:
        name = Path(config).stem
        cfg = load_config(config, options.cfg_options)
        models = [
            MapModel(cfg, checkpoint, options, window)
            for checkpoint in dict.fromkeys(checkpoints)
        ]
        dataset = build_test_set(cfg)
        subjects[options.titles[name]] = [
            Subject(model, wanted(model), dataset, options, progress)
            for model in models
        ]
    return subjects


def read_arrays(path: Path, keys: Collection[str]) -> Arrays | None:
    """Arrays of a file; None where it is missing, cut short or holds others."""
    try:
        with np.load(path) as content:
            return dict(content) if set(content.files) == set(keys) else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write a file in full for ``read_arrays``."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    write_atomically(path, content.getvalue())
