"""Trained models on their test images; what is measured of them is kept in files."""

import io
import zipfile
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from aib_mm.diagnosis.configs import load_config
from aib_mm.errors import UsageError
from aib_mm.experiments.maps.data import build_test_set
from aib_mm.experiments.maps.model import MapModel
from aib_mm.experiments.names import chosen, read_titles
from aib_mm.experiments.progress import make_console, say
from aib_mm.experiments.provenance import fingerprint
from aib_mm.experiments.report import Report
from aib_mm.training.checkpoint import check_checkpoint
from aib_mm.utils.files import file_name, write_atomically
from aib_mm.utils.tables import Table

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
        title: what the table calls the config.
        dataset: data set from ``build_test_set``.
        options: options of the program.
        progress: shows how many images are done.

    Raises:
        UsageError: a map cannot be made.
    """

    model: MapModel
    maps: Sequence[str]
    title: str
    dataset: BaseDataset
    options: Namespace
    progress: Progress

    def __post_init__(self) -> None:
        self.model.prepare(self.maps, self.dataset[0])

    @cached_property
    def indices(self) -> list[int]:
        """The images that are measured, in rising order: all, or drawn by the seed."""
        total, count = len(self.dataset), self.options.images
        if count is None or count >= total:
            return list(range(total))
        order = np.random.default_rng(self.options.seed).permutation(total)
        return sorted(order[:count].tolist())

    def batches(self, size: int) -> Iterator[tuple[Batch, Sequence[int]]]:
        """Lists of these images and their data samples, with the images' indices."""
        loader = DataLoader(
            Subset(self.dataset, self.indices),
            batch_size=size,
            num_workers=self.model.cfg.test_dataloader.get('num_workers', 0),
            collate_fn=pseudo_collate,
        )
        for start, batch in zip(range(0, len(self.indices), size), loader, strict=True):
            yield batch, self.indices[start : start + size]

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
        key = fingerprint(
            cfg.model.to_dict(),
            cfg.test_dataloader.dataset.to_dict(),
            [options.seed, options.images],
            *identity,
        )
        stem = f'{Path(cfg.filename).stem}-{kind.replace(":", "_")}'
        name = file_name(f'{stem}-{key[:16]}')
        path = Path(options.out) / 'measured' / f'{name}.npz'
        name = f'{self.title}, {Path(self.model.checkpoint).name}: {label}'
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
    options: Namespace,
    progress: Progress,
    option: str,
    wanted: Callable[[MapModel, Sequence[str]], Sequence[str]],
    window: int | None = None,
) -> dict[str, list[Subject]]:
    """Every model that a table asks for, by its title; its maps tried on an image.

    Args:
        options: options of the program.
        progress: progress of all subjects.
        option: the one of them that says which maps are measured, see ``chosen``.
        wanted: function from a model, and what was chosen for its config, to the names
            of the maps to measure.
        window: side of the occlusion in pixels, see ``MapModel``.

    Raises:
        UsageError: a config, its test set or an option that cannot be used.
        CheckpointError: an unusable checkpoint, or one that lacks weights.
    """
    titles = _titles(options)
    maps = chosen(f'--{option}', getattr(options, option), titles)
    for _, *checkpoints in options.model:
        for checkpoint in checkpoints:
            check_checkpoint(checkpoint)
    subjects = {}
    for config, *checkpoints in options.model:
        name = Path(config).stem
        cfg = load_config(config, options.cfg_options)
        every = dict.fromkeys(checkpoints)
        models = [MapModel(cfg, one, options, window) for one in every]
        found = (titles[name], build_test_set(cfg), options, progress)
        subjects[titles[name]] = [
            Subject(model, wanted(model, maps[name]), *found) for model in models
        ]
    return subjects


def _titles(options: Namespace) -> dict[str, str]:
    """What the table calls each config, by the config's name."""
    names: dict[str, str] = {}
    for config, *checkpoints in options.model:
        name = Path(config).stem
        if not checkpoints:
            raise UsageError(f'--model {config} needs a checkpoint behind the config')
        if name in names:
            raise UsageError(
                f'--model {config}: a second config called {name}; give all its '
                'checkpoints to one --model'
            )
        names[name] = name
    titles = read_titles(options.title, names)
    if len(set(titles.values())) < len(titles):
        raise UsageError(f'--title must tell the models apart, got {options.title}')
    return titles


def report(
    name: str,
    options: Namespace,
    tables: Mapping[str, Table],
    notes: Sequence[str],
    figures: Mapping[str, Any],
    **more: Any,
) -> None:
    """Print and write the tables of what was measured.

    Args:
        name: name of the files.
        options: options of the program, which the figures depend on.
        tables: tables by their titles.
        notes: what the figures are, for readers.
        figures: figures of each checkpoint, by the model's title.
        more: what else the figures depend on.
    """
    about = {key: value for key, value in vars(options).items() if key != 'force'}
    written = Report(name, tables, notes, dict(about, **more), dict(models=figures))
    written.show(make_console())
    print(written.write(Path(options.out)))


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
