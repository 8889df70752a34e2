"""Every kind of map that a trained classifier gives of its images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor

from aib_mm.errors import UsageError
from aib_mm.experiments.maps.model import (
    attention_maps,
    cam_layer,
    content_of,
    level_of,
    trained_model,
)
from aib_mm.features import AttentionModule
from aib_mm.interpret.measure.edits import generator_for
from aib_mm.interpret.record.baselines import center_map, occlusion_map, random_map
from aib_mm.interpret.record.class_activation import METHODS, class_activation
from aib_mm.utils.libraries import MissingLibraryError

OWN, OCCLUSION, CENTER, RANDOM = 'attention', 'occlusion', 'center', 'random'
MAPS = (OWN, *METHODS, OCCLUSION, CENTER, RANDOM)
DEFAULT_MAPS = (OWN, 'GradCAM', 'GradCAMPlusPlus', OCCLUSION, CENTER, RANDOM)


@dataclass(frozen=True)
class MapOptions:
    """How maps are made.

    Attributes:
        seed: of the random maps.
        level: see ``MapSettings``.
        layer: for class activation; None for ``default_layer``.
        window: of the occlusion, in pixels; None for a quarter of the shorter side.
        device: for torch.
    """

    seed: int = 0
    level: str | int | None = None
    layer: str | None = None
    window: int | None = None
    device: str = 'cpu'


class Images(NamedTuple):
    """A batch as the model's data preprocessor made it, with what it predicts.

    Attributes:
        data: ``inputs`` ``(B, C, H, W)`` and ``data_samples``.
        indices: of the images in the test set.
        predicted: classes, ``(B,)``.
    """

    data: Mapping[str, Any]
    indices: Sequence[int]
    predicted: Tensor

    @property
    def inputs(self) -> Tensor:
        """What the network sees, normalised."""
        return self.data['inputs']

    @property
    def size(self) -> tuple[int, int]:
        """H and W of the inputs."""
        height, width = self.inputs.shape[-2:]
        return height, width


class MapMaker:
    """The maps of one checkpoint, and its predictions, without sampling.

    Class activation and occlusion explain the class that the model predicts; the other
    maps know no class.

    Args:
        cfg: of a classifier of mmpretrain.
        checkpoint: of this config's model.
        options: how maps are made.
        wanted: of ``MAPS``.
        example: an item of the test set; every map is tried on it.

    Raises:
        UsageError: another toolkit's config, weights that are not those of the model,
            a level, a layer or a window that it does not have, a missing library,
            nothing wanted that it has.
        CheckpointError: an unusable checkpoint.

    Attributes:
        maps: those wanted, less ``OWN`` for a model without attention.
        weights: of the checkpoint's content, or its address.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str,
        options: MapOptions,
        wanted: Sequence[str],
        example: Mapping[str, Any],
    ) -> None:
        self.options = options
        self.config = str(cfg.filename)
        self.model = trained_model(cfg, checkpoint).to(options.device).eval()
        self.weights = content_of(checkpoint)
        kinds = [m for m in self.model.modules() if isinstance(m, AttentionModule)]
        self.attends = ' and '.join(dict.fromkeys(type(m).__name__ for m in kinds))
        self.maps = [name for name in wanted if name != OWN or self.attends]
        if not self.maps:
            raise UsageError(f'{self.config} has no attention; name other --maps')
        self.level = level_of(cfg) if options.level is None else options.level
        batch = pseudo_collate([example])
        self.layer = ''
        if set(self.maps) & set(METHODS):
            self.layer = cam_layer(self.model, batch, options.layer, self.config)
        try:
            for name in self.maps:
                self(name, self.read(batch, [0]))
        except (ValueError, MissingLibraryError) as error:
            raise UsageError(f'{self.config}: {error}') from error

    def read(self, batch: dict[str, list], indices: Sequence[int]) -> Images:
        """Items of the test set, collated into lists, for the other methods."""
        data = self.model.data_preprocessor(batch, False)
        return Images(data, indices, self.predict(data['inputs']).argmax(dim=1))

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """Probabilities ``(B, K)`` from the mean attention and the mean latent."""
        return self.model(inputs).softmax(dim=1)

    def __call__(self, name: str, images: Images) -> Tensor:
        """The map ``name`` of each image, ``(B, h, w)``, on the CPU."""
        makers: dict[str, Callable[[Images], Tensor]] = {
            OWN: self._attention,
            OCCLUSION: self._occlusion,
            CENTER: self._center,
            RANDOM: self._random,
        }
        if name in makers:
            return makers[name](images).float().cpu()
        layer = self.model.get_submodule(self.layer)
        return class_activation(self.model, layer, images.inputs, name)[1].cpu()

    def title(self, name: str) -> str:
        """What the table calls a map."""
        return f'{name} ({self.attends})' if name == OWN else name

    def identity(self, name: str) -> list[Any]:
        """What a map depends on beside the model and the images."""
        if name in METHODS:
            return [name, self.layer]
        return [
            name,
            {
                OWN: self.level,
                OCCLUSION: self.options.window,
                RANDOM: self.options.seed,
            }.get(name),
        ]

    def _attention(self, images: Images) -> Tensor:
        return attention_maps(self.model, images.data, self.level)[1]

    def _occlusion(self, images: Images) -> Tensor:
        window = self.options.window or max(min(images.size) // 4, 1)
        return occlusion_map(
            self.predict,
            images.inputs,
            images.predicted,
            window,
            stride=max(window // 2, 1),
        )

    def _center(self, images: Images) -> Tensor:
        return center_map(images.size).expand(len(images.indices), -1, -1)

    def _random(self, images: Images) -> Tensor:
        return torch.stack(
            [
                random_map(images.size, generator_for(self.options.seed, RANDOM, index))
                for index in images.indices
            ]
        )
