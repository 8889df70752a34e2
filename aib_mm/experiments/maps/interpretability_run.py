"""Edited images through one trained classifier; what is measured is kept in files."""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import Dataset

from aib_mm.errors import UsageError
from aib_mm.experiments.maps.data import choose_images, image_batches
from aib_mm.experiments.maps.model import MapReader
from aib_mm.experiments.provenance import fingerprint
from aib_mm.interpret.measure.consistency import map_similarity
from aib_mm.interpret.measure.edits import Edit, generator_for
from aib_mm.utils.files import write_atomically

#: A dataclass of arrays.
Measured = TypeVar('Measured')
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Originals:
    """Of the images as they are: true and predicted classes, maps ``(N, h, w)``."""

    labels: np.ndarray
    predicted: np.ndarray
    maps: np.ndarray


@dataclass(frozen=True)
class Edited:
    """Of the edited images: predicted classes, similarity to the original's map."""

    predicted: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class ImageSettings:
    """Which images, how many at a time, how edited and how compared.

    Attributes:
        seed: of the edits and of the choice of images.
        count: images of the test set; None for all.
        batch: images a pass; figures depend on it by rounding only.
        normalization: of the maps, see ``consistency.normalize_maps``.
    """

    seed: int = 0
    count: int | None = None
    batch: int = 100
    normalization: str = 'minmax'


class Subject:
    """The test images of a config, and what one of its checkpoints makes of them.

    Args:
        cfg: as for ``MapReader``.
        reader: of the config and the checkpoint.
        dataset: of ``build_dataset``.
        settings: see there.
        folder: of what is measured, a file for each edit.
    """

    def __init__(
        self,
        cfg: Config,
        reader: MapReader,
        dataset: Dataset,
        settings: ImageSettings,
        folder: Path,
    ) -> None:
        self.cfg = cfg
        self.reader = reader
        self.dataset = dataset
        self.settings = settings
        self.folder = folder
        self.indices = choose_images(len(dataset), settings.count, settings.seed)

    def check(self, edits: Sequence[Edit]) -> None:
        """Try every edit on the first image.

        Raises:
            UsageError: it does not fit.
        """
        index = self.indices[0]
        image = self.dataset[index]['inputs']
        for edit in edits:
            try:
                self._edit(image, edit, index)
            except ValueError as error:
                raise UsageError(
                    f'{edit.name} of the images of {self.cfg.filename}: {error}'
                ) from error

    def originals(self, advance: Advance, force: bool = False) -> Originals:
        """Measured now, or read where that was done before.

        Args:
            advance: gets the number of images done, now and then.
            force: measure again in any case.
        """

        def measure() -> Originals:
            labels, predicted, maps = [], [], []
            for batch, indices in self._batches():
                labels += [int(sample.gt_label) for sample in batch['data_samples']]
                found = self.reader(batch)
                predicted.append(found[0])
                maps.append(found[1])
                advance(len(indices))
            return Originals(np.array(labels), _joined(predicted), _joined(maps))

        return kept(self._path('originals'), Originals, measure, force)

    def edited(
        self, edit: Edit, originals: Originals, advance: Advance, force: bool = False
    ) -> Edited:
        """Measured now, or read where that was done before; arguments as above."""

        def measure() -> Edited:
            predicted, similarity, done = [], [], 0
            for batch, indices in self._batches():
                batch['inputs'] = [
                    self._edit(image, edit, index)
                    for image, index in zip(batch['inputs'], indices, strict=True)
                ]
                classes, maps = self.reader(batch)
                before = originals.maps[done : done + len(indices)]
                predicted.append(classes)
                similarity.append(
                    map_similarity(
                        torch.from_numpy(before), maps, self.settings.normalization
                    )
                )
                done += len(indices)
                advance(len(indices))
            return Edited(_joined(predicted), _joined(similarity))

        return kept(self.path(edit), Edited, measure, force)

    def path(self, edit: Edit) -> Path:
        """Where what is measured of an edit is kept."""
        return self._path('edited', _identity(edit), self.settings.normalization)

    def _path(self, kind: str, *identity: Any) -> Path:
        """The name holds what the content depends on."""
        key = fingerprint(
            self.cfg.model.to_dict(),
            self.cfg.test_dataloader.dataset.to_dict(),
            [self.reader.weights, self.reader.name],
            [self.settings.seed, self.settings.count],
            kind,
            *identity,
        )
        return self.folder / f'{Path(self.cfg.filename).stem}-{kind}-{key[:16]}.npz'

    def _batches(self) -> Iterator[tuple[dict[str, list], Sequence[int]]]:
        size = self.settings.batch
        return image_batches(self.cfg, self.dataset, self.indices, size)

    def _edit(self, image: Tensor, edit: Edit, index: int) -> Tensor:
        generator = generator_for(self.settings.seed, edit.name, index)
        return edit(image.float(), generator)


def kept(
    path: Path, kind: type[Measured], measure: Callable[[], Measured], force: bool
) -> Measured:
    """What an earlier run left at ``path``, or what is measured now, and left there.

    A file that is cut short or empty counts as none.
    """
    names = {field.name for field in fields(kind)}
    if path.is_file() and not force:
        try:
            with np.load(path) as content:
                if names == set(content.files):
                    return kind(**content)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            pass
    found = measure()
    content = io.BytesIO()
    np.savez(content, **vars(found))
    write_atomically(path, content.getvalue())
    return found


def _identity(edit: Edit) -> list[Any]:
    """What an edit is, in plain containers."""
    values = [getattr(edit, field.name) for field in fields(edit)]
    return [edit.name, *(getattr(value, 'identity', value) for value in values)]


def _joined(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).numpy()
