"""Attention drawn during validation, for every backend of the visualizer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray
from torch import Tensor, nn

from aib_mm.errors import check_count, describe
from aib_mm.interpret.draw.pictures import SCALES, overlay
from aib_mm.interpret.record.fields import PredictionMapsHook, Predictions
from aib_mm.interpret.record.geometry import map_on_image
from aib_mm.interpret.record.inputs import (
    exchanges_channels,
    network_input,
    with_shapes,
)
from aib_mm.utils.files import file_name
from aib_mm.utils.wrappers import unwrapped

_Pair = tuple[Tensor, Tensor]
_GAP = 4  # pixels between the pictures of a strip
_SHORTEST = 128  # side of a picture: small images are shown larger


@HOOKS.register_module()
class AttentionVisualizationHook(PredictionMapsHook):
    """Draw the attention of some images in every validation and test.

    For any config of any host, through ``visualizer``: what ``vis_backends`` it has
    (local files, TensorBoard, …) get one picture an image, named
    ``attention_<number>_<file name>`` (another ``source`` by its name): the image as
    the network saw it, the mean attention over it, and the std where anything is
    random. The step is the number of training iterations, so that one sees the
    attention develop.

    A picture never stops a training: what cannot be drawn is left out, and the first
    reason is a warning.

    Args:
        images: number of images, at most.
        interval: distance from one drawn image to the next.
        level: what ``combine_levels`` takes.
        mean_range, std_range: values at the ends of the colour scales; by default each
            image's own, and from 0 to the largest std.
        opacity: share of the colours, in [0, 1].
        source: what the maps are, see ``PredictionMapsHook``.

    Raises:
        ValueError: an impossible count, level or source, when the hook is built.
    """

    def __init__(
        self,
        images: int = 8,
        interval: int = 1,
        level: str | int = 'mean',
        mean_range: tuple[float, float] | None = None,
        std_range: tuple[float, float] | None = None,
        opacity: float = 0.6,
        source: str = 'attention',
    ) -> None:
        super().__init__(level, source)
        check_count('images', images, 1)
        check_count('interval', interval, 1)
        self.images = images
        self.interval = interval
        self.mean_range = mean_range
        self.std_range = std_range
        self.opacity = opacity
        self._passed = 0
        self._failed = False
        self._maps: list[_Pair] = []

    def _watch(self, model: nn.Module) -> None:
        with self._left_out():
            super()._watch(model)

    def _begin(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        with self._left_out():
            super()._begin(model, args, kwargs)

    def _keep(self, name: str, inputs: Any, output: Any) -> None:
        with self._left_out():
            super()._keep(name, inputs, output)

    def _finish(self, name: str, inputs: Any, output: Any) -> None:
        with self._left_out():
            super()._finish(name, inputs, output)

    @contextmanager
    def _left_out(self) -> Iterator[None]:
        """Go on after any error, which is told once."""
        try:
            yield
        except Exception as error:  # of a model, a picture or a backend of any kind
            if not self._failed:
                print_log(
                    f'{type(self).__name__} leaves pictures out: {describe(error)}',
                    logger='current',
                    level=logging.WARNING,
                )
            self._failed = True

    def use(
        self, samples: Predictions, mean: Tensor, std: Tensor, bits: Tensor | None
    ) -> None:
        """Keep the maps until the batch is at hand."""
        self._maps = list(zip(mean, std, strict=True))

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        self._passed = 0

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
        mode: str = 'train',
    ) -> None:
        maps, self._maps = self._maps, []
        if not maps or not is_main_process():
            return
        with self._left_out():
            batch = zip(data_batch['inputs'], outputs, maps, strict=False)
            for number, one in enumerate(batch, self._passed):
                self._passed = number + 1
                if number % self.interval or number >= self.images * self.interval:
                    continue
                with self._left_out():
                    self._draw(runner, number, *one)

    def _draw(
        self,
        runner: Runner,
        number: int,
        inputs: Tensor,
        sample: BaseDataElement,
        pair: _Pair,
    ) -> None:
        meta = with_shapes(sample.metainfo, inputs)
        path = meta.get('img_path')
        preprocessor = unwrapped(runner.model).data_preprocessor
        is_bgr = path is not None or exchanges_channels(preprocessor)
        image = network_input(inputs, meta, is_bgr)
        # Two folders may hold images of one name; an image may be of several files.
        stem = f'_{Path(path).stem}' if isinstance(path, str | Path) else ''
        name = file_name(f'{self.source}_{number:05d}{stem}'.replace(':', '_'))
        mean, std = (
            map_on_image(values.float().cpu(), meta, 'img_shape').numpy()
            for values in pair
        )
        runner.visualizer.add_image(name, self.strip(image, mean, std), runner.iter)

    def strip(
        self,
        image: NDArray[np.uint8],
        mean: NDArray[np.floating],
        std: NDArray[np.floating],
    ) -> NDArray[np.uint8]:
        """Image, mean and std side by side, ``(h, w, 3)``, RGB.

        Args:
            image: what the network saw, ``(H, W, 3)``, without padding.
            mean: mean attention over that image, ``(h, w)``.
            std: its std, likewise; left out where it is 0 everywhere.
        """
        # A whole number of times as large, so that a small one can be seen.
        factor = max(1, -(-_SHORTEST // min(image.shape[:2])))
        image = image.repeat(factor, axis=0).repeat(factor, axis=1)
        gap = np.full((image.shape[0], _GAP, 3), 255, np.uint8)
        parts = [image]
        maps = [(mean, self.mean_range, SCALES['attention'].colors)]
        if std.any():
            std_range = self.std_range or (0.0, float(std.max()))
            maps.append((std, std_range, SCALES['std'].colors))
        for values, ends, colors in maps:
            over = overlay(
                image, values, value_range=ends, colors=colors, opacity=self.opacity
            )
            parts += [gap, over]
        return np.concatenate(parts, axis=1)
