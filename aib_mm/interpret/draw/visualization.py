"""Attention drawn during validation, for every backend of the visualizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray

from aib_mm.errors import check_count
from aib_mm.interpret.draw.gallery import MEAN_COLORS, STD_COLORS
from aib_mm.interpret.draw.overlay import overlay
from aib_mm.interpret.record.fields import AttentionFieldsHook
from aib_mm.interpret.record.geometry import map_on_image
from aib_mm.interpret.record.inputs import (
    exchanges_channels,
    network_input,
    with_shapes,
)
from aib_mm.utils.wrappers import unwrapped

_GAP = 4  # pixels between the pictures of a strip
_SHORTEST = 128  # side of a picture: small images are shown larger


@HOOKS.register_module()
class AttentionVisualizationHook(AttentionFieldsHook):
    """Draw the attention of some images in every validation and test.

    For any config of any host, through ``visualizer``: what ``vis_backends`` it has
    (local files, TensorBoard, …) get one picture an image, named
    ``attention_<number>_<file name>``: the image as the network saw it, the mean
    attention over it, and the std. The step is the number of training iterations, so
    that one sees the attention develop.

    It writes ``attention_mean`` and ``attention_std`` into the data samples, as
    ``AttentionFieldsHook`` does, and warns where that one would.

    Args:
        images: how many, at most.
        interval: every so many-th image.
        level: see ``combine_levels``.
        mean_range, std_range: values at the ends of the colour scales; by default each
            image's own, and from 0 to the largest std.
        opacity: of the colours, in [0, 1].

    Raises:
        ValueError: an impossible count, or another level.
    """

    def __init__(
        self,
        images: int = 8,
        interval: int = 1,
        level: str | int = 'mean',
        mean_range: tuple[float, float] | None = None,
        std_range: tuple[float, float] | None = None,
        opacity: float = 0.6,
    ) -> None:
        super().__init__(level)
        check_count('images', images, 1)
        check_count('interval', interval, 1)
        self.images = images
        self.interval = interval
        self.mean_range = mean_range
        self.std_range = std_range
        self.opacity = opacity
        self._passed = 0

    def before_val_epoch(self, runner: Runner) -> None:
        self._passed = 0

    def before_test_epoch(self, runner: Runner) -> None:
        self._passed = 0

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        self._draw(runner, data_batch, outputs or ())

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        self._draw(runner, data_batch, outputs or ())

    def _draw(
        self, runner: Runner, batch: Any, outputs: Sequence[BaseDataElement]
    ) -> None:
        if not is_main_process():
            return
        preprocessor = unwrapped(runner.model).data_preprocessor
        for inputs, sample in zip(batch['inputs'], outputs, strict=False):
            number, self._passed = self._passed, self._passed + 1
            due = number % self.interval == 0 and number < self.images * self.interval
            if due and 'attention_mean' in sample:
                meta = with_shapes(sample.metainfo, inputs)
                path = meta.get('img_path')
                is_bgr = path is not None or exchanges_channels(preprocessor)
                image = network_input(inputs, meta, is_bgr)
                # Two folders may hold images of one name.
                name = f'{number:05d}' + (f'_{Path(path).stem}' if path else '')
                maps = (
                    map_on_image(values.float().cpu(), meta, 'img_shape').numpy()
                    for values in (sample.attention_mean, sample.attention_std)
                )
                runner.visualizer.add_image(
                    f'attention_{name}', self.strip(image, *maps), runner.iter
                )

    def strip(
        self,
        image: NDArray[np.uint8],
        mean: NDArray[np.floating],
        std: NDArray[np.floating],
    ) -> NDArray[np.uint8]:
        """Image, mean and std side by side, ``(h, w, 3)``, RGB.

        Args:
            image: what the network saw, ``(H, W, 3)``, without padding.
            mean: of the attention, over that image.
            std: likewise.
        """
        image = _enlarged(image)
        std_range = self.std_range or (0.0, max(float(std.max()), 1e-12))
        shown = (
            (mean, self.mean_range, MEAN_COLORS),
            (std, std_range, STD_COLORS),
        )
        gap = np.full((image.shape[0], _GAP, 3), 255, np.uint8)
        parts = [image]
        for values, limits, colors in shown:
            picture = overlay(
                image,
                values,
                value_range=limits,
                colors=colors,
                opacity=self.opacity,
            )
            parts += [gap, picture]
        return np.concatenate(parts, axis=1)


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Whole times as large, so that a small image can be seen."""
    factor = max(1, -(-_SHORTEST // min(image.shape[:2])))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
