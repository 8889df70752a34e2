"""Maps of test images, measured against the object and by the prediction they carry."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import Dataset

from aib_mm.errors import UsageError
from aib_mm.experiments.maps.data import choose_images, image_batches
from aib_mm.experiments.maps.interpretability_run import Advance, kept
from aib_mm.experiments.maps.localization_maps import Images, MapMaker
from aib_mm.experiments.provenance import fingerprint
from aib_mm.interpret.measure.faithfulness import (
    curve_area,
    deletion_curve,
    insertion_curve,
)
from aib_mm.interpret.measure.localization import (
    attention_energy,
    attention_iou,
    dilate,
    pointing_game,
)
from aib_mm.interpret.measure.regions import MaskRegion
from aib_mm.interpret.record.geometry import resize_map

#: Of the network's input: the mean colour, where the data preprocessor subtracts it.
BASELINE = 0.0


@dataclass(frozen=True)
class Located:
    """One kind of map on the images, ``(N,)`` each.

    What is measured against the object is NaN for an image without one.
    """

    labels: np.ndarray
    predicted: np.ndarray
    area: np.ndarray
    chance: np.ndarray
    energy: np.ndarray
    pointing: np.ndarray
    iou: np.ndarray
    insertion: np.ndarray
    deletion: np.ndarray


@dataclass(frozen=True)
class MeasureSettings:
    """Which images, and what the measures take.

    Attributes:
        seed: of the choice of images.
        count: images of the test set.
        batch: images a pass; figures depend on it by rounding only.
        threshold: of ``attention_iou``.
        tolerance: of ``pointing_game``.
        steps: of insertion and deletion.
    """

    seed: int = 0
    count: int | None = 200
    batch: int = 100
    threshold: float = 0.5
    tolerance: int = 1
    steps: int = 32


class LocatedSubject:
    """The test images of a config, and one checkpoint's maps of them, measured.

    Args:
        cfg: as for ``MapMaker``.
        maker: of the config and the checkpoint.
        dataset: of ``build_dataset``; its data samples hold masks.
        settings: see there.
        folder: of what is measured, a file for each kind of map.

    Raises:
        UsageError: data samples without a mask, more steps than pixels.
    """

    def __init__(
        self,
        cfg: Config,
        maker: MapMaker,
        dataset: Dataset,
        settings: MeasureSettings,
        folder: Path,
    ) -> None:
        self.cfg = cfg
        self.maker = maker
        self.dataset = dataset
        self.settings = settings
        self.folder = folder
        self.region = MaskRegion()
        self.indices = choose_images(len(dataset), settings.count, settings.seed)
        batch, indices = next(image_batches(cfg, dataset, self.indices[:1], 1))
        try:
            self._measures(maker.maps[0], maker.read(batch, indices))
        except (KeyError, ValueError) as error:
            raise UsageError(f'{cfg.filename}: {error.args[0]}') from error

    def located(self, name: str, advance: Advance, force: bool = False) -> Located:
        """Measured now, or read where that was done before.

        Args:
            name: of the map.
            advance: gets the number of images done, now and then.
            force: measure again in any case.
        """

        def measure() -> Located:
            found: dict[str, list[Tensor]] = {f.name: [] for f in fields(Located)}
            batches = image_batches(
                self.cfg, self.dataset, self.indices, self.settings.batch
            )
            for batch, indices in batches:
                images = self.maker.read(batch, indices)
                for key, values in self._measures(name, images).items():
                    found[key].append(values.cpu())
                advance(len(indices))
            return Located(
                **{key: torch.cat(parts).numpy() for key, parts in found.items()}
            )

        return kept(self.path(name), Located, measure, force)

    def path(self, name: str) -> Path:
        """Where what is measured of a map is kept; says what the content depends on."""
        key = fingerprint(
            self.cfg.model.to_dict(),
            self.cfg.test_dataloader.dataset.to_dict(),
            [self.maker.weights, *self.maker.identity(name)],
            {k: v for k, v in vars(self.settings).items() if k != 'batch'},
        )
        return self.folder / f'{Path(self.cfg.filename).stem}-{name}-{key[:16]}.npz'

    def _measures(self, name: str, images: Images) -> dict[str, Tensor]:
        """The fields of ``Located`` for a batch."""
        maps = self.maker(name, images).unsqueeze(1)
        samples = images.data['data_samples']
        found = dict(
            labels=torch.stack([sample.gt_label.cpu().view(()) for sample in samples]),
            predicted=images.predicted,
        )
        placed = [
            self._on_object(one, sample.to_dict())
            for one, sample in zip(maps, samples, strict=True)
        ]
        for key in placed[0]:
            found[key] = torch.stack([one[key] for one in placed])
        maps = resize_map(maps, images.size).to(images.inputs.device)
        for key, curve in (
            ('insertion', insertion_curve),
            ('deletion', deletion_curve),
        ):
            scores = curve(
                self.maker.predict,
                images.inputs,
                maps,
                BASELINE,
                images.predicted,
                self.settings.steps,
            )
            found[key] = curve_area(scores)
        return found

    def _on_object(
        self, attention: Tensor, sample: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Of one map ``(1, h, w)``, at the size of the mask."""
        settings = self.settings
        attention, mask = (x[None] for x in self.region(attention, sample))
        near = dilate(mask, settings.tolerance)
        found = dict(
            area=mask.double().mean(),
            chance=near.double().mean(),
            energy=attention_energy(attention, mask)[0],
            pointing=pointing_game(attention, mask, settings.tolerance)[0],
            iou=attention_iou(attention, mask, settings.threshold)[0],
        )
        if mask.any():
            return found
        return {key: torch.full_like(value, torch.nan) for key, value in found.items()}
