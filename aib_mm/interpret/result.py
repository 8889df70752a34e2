"""One image, what a model predicts for it and where it looks: plain arrays."""

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray
from torch import Tensor

from aib_mm.errors import InferenceError
from aib_mm.features import AttentionMaps
from aib_mm.interpret.measure.consistency import map_similarity
from aib_mm.interpret.record.geometry import map_on_image
from aib_mm.interpret.record.information import Information
from aib_mm.interpret.record.levels import combine_bits, combine_levels
from aib_mm.interpret.record.recording import AttentionRecord
from aib_mm.interpret.record.source import MapSource, merged
from aib_mm.interpret.record.windows import Windows, whole_levels

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """A prediction, beside the truth where that is known.

    Attributes:
        predicted: the classes found, the first is the surest or largest.
        true: the classes that are there, None where unknown.
        quality: in [0, 1]: whether the class is right; F1 of the boxes (same class,
            IoU of at least 0.5); mean IoU over the classes of the image. None without
            truth.
        entropy: doubt of the prediction in nats: about the class; mean over boxes,
            about being there or not; mean over pixels, about the class. None where
            nothing is predicted.
    """

    predicted: tuple[int, ...]
    true: tuple[int, ...] | None = None
    quality: float | None = None
    entropy: float | None = None


@dataclass(frozen=True)
class AttentionResult:
    """What ``AttentionInferencer`` gives for one image of H × W pixels.

    Maps are laid on the image when they are first asked for, so that whoever writes
    pictures does that work in a thread of its own. ``plot()`` draws the image beside
    its map, and a notebook shows a result so.

    Attributes:
        name: identifies the image: its path below the folder that was given, or the
            place of an array in the list, in five digits.
        image: ``(H, W, 3)`` uint8, RGB, also of a model that takes BGR. By ``frame``
            the image as the pipeline's loader read it, or what the network saw.
        prediction: the host's data sample, on the CPU; mmseg's without ``seg_logits``.
            Its boxes and masks lie on ``image``.
        outcome: the prediction in words that all hosts share: classes predicted and
            true, quality in [0, 1], entropy in nats.
        levels: maps of this image as the modules gave them, a batch of one, float32 on
            the CPU, over the network's input with its padding; in the model's order.
        latent: what the latents tell, on the CPU, or None without a density.
        level: what ``combine_levels`` takes; there is such a level.
        frame: ``'ori_shape'``: H and W are those of the file, and the maps, which lie
            over the network's input, are cut of its padding and resized to that.
            ``'img_shape'``, of classifiers alone: the test pipeline crops, or resizes
            without saying how; ``image`` is then the crop that the network saw, with
            its normalisation undone, and H and W are the crop's.
        source: what the maps are, as ``AttentionInferencer`` takes it; of class
            activation with its layer. ``attention_mean`` and its like are these maps
            whatever the source.
        words: the same for people.
    """

    name: str
    image: Pixels
    prediction: BaseDataElement
    outcome: Outcome
    levels: tuple[AttentionMaps, ...]
    latent: Information | None
    level: str | int = 'mean'
    frame: str = 'ori_shape'
    source: str = 'attention'
    words: str = 'attention'

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        outcome = f'predicted={list(self.outcome.predicted)}'
        if self.outcome.true is not None:
            outcome += f', true={list(self.outcome.true)}'
        return (
            f'{type(self).__name__}({self.name!r}, {height}×{width}, {outcome}, '
            f'source={self.source!r}, levels={len(self.levels)})'
        )

    def _repr_html_(self) -> str:
        """The image beside its map, for notebooks."""
        content = io.BytesIO()
        self.plot().savefig(content, format='png')
        data = base64.b64encode(content.getvalue()).decode('ascii')
        return (
            f'<figure><img alt="{escape(self.words)}" '
            f'src="data:image/png;base64,{data}">'
            f'<figcaption>{escape(repr(self))}</figcaption></figure>'
        )

    def plot(self) -> Figure:
        """The image, its map over it, and the bits let through, or else the std if any.

        Returns:
            A figure of matplotlib that is none of pyplot's: ``plot().savefig(path)``.
        """
        maps = {self.words: (self.attention_mean, 'viridis')}
        if self.passed is not None and self.passed.map is not None:
            maps['bits let through'] = self.passed.map, 'cividis'
        elif not self.is_certain:
            maps['std'] = self.attention_std, 'magma'
        figure = Figure(figsize=(3.2 * (1 + len(maps)), 3.4), layout='constrained')
        axes = figure.subplots(1, 1 + len(maps))
        for axis in axes:
            axis.imshow(self.image)
            axis.set_axis_off()
        axes[0].set_title(self.name, fontsize=9)
        for axis, (title, (values, colors)) in zip(axes[1:], maps.items(), strict=True):
            drawn = axis.imshow(values, cmap=colors, alpha=0.6)
            axis.set_title(title, fontsize=9)
            bar = figure.colorbar(drawn, ax=axis, location='bottom')
            bar.ax.locator_params('x', nbins=4)  # close values have long labels
        return figure

    @property
    def is_certain(self) -> bool:
        """Whether nothing in the maps is random: no std, no samples worth showing."""
        return all(maps.is_certain for maps in self.levels)

    @cached_property
    def attention_mean(self) -> Map:
        """Mean attention ``(H, W)`` of the levels asked for."""
        return self._place(combine_levels(self.levels, self.level)[0][0])

    @cached_property
    def attention_std(self) -> Map:
        """Std of the attention ``(H, W)``, of the levels asked for."""
        return self._place(combine_levels(self.levels, self.level)[1][0])

    @cached_property
    def samples(self) -> Map:
        """The maps that modulated the features, ``(L_a, H, W)``.

        One level's, the finest unless another was asked for: the mean of anchors is not
        an anchor.
        """
        smooth = not self.quantized
        return np.stack([self._place(one[0], smooth) for one in self._sampled.samples])

    @property
    def quantized(self) -> bool:
        """Whether the samples are anchors, which only a qt model has."""
        return self._sampled.indices is not None

    @cached_property
    def consistency(self) -> float | None:
        """Agreement of the samples, in [0, 1]; None for a single sample.

        The mean over their pairs of ``map_similarity``.
        """
        return agreement(self._sampled.samples)

    @cached_property
    def uncertainty(self) -> dict[str, float]:
        """What is known of the doubt.

        ``attention_std``, the mean over the image, where anything is random;
        ``predictive_entropy`` in nats, as the head wrote it, else ``Outcome.entropy``;
        ``mutual_information`` in nats where the head wrote it.
        """
        found = {}
        if not self.is_certain:
            found['attention_std'] = float(self.attention_std.mean())
        entropy = self.prediction.get('predictive_entropy', self.outcome.entropy)
        if entropy is not None:
            found['predictive_entropy'] = float(entropy)
        if 'mutual_information' in self.prediction:
            found['mutual_information'] = float(self.prediction.mutual_information)
        return found

    @cached_property
    def information(self) -> 'PlacedInformation | None':
        """What the latents tell, in bits, of what lies on the image."""
        return place_information(self.latent, self.prediction.metainfo, self.frame)

    @cached_property
    def passed(self) -> 'PlacedInformation | None':
        """Bits that the map lets through; None where the neck does not report them."""
        bits = combine_bits(self.levels, self.level)
        found = None if bits is None else Information(bits[0, 0])
        return place_information(found, self.prediction.metainfo, self.frame)

    @property
    def _sampled(self) -> AttentionMaps:
        if self.level != 'mean':
            return self.levels[int(self.level)]
        return max(self.levels, key=lambda maps: maps.mean.numel())

    def _place(self, maps: Tensor, smooth: bool = True) -> Map:
        return _place(maps, self.prediction.metainfo, self.frame, smooth)


class PlacedInformation(NamedTuple):
    """``Information`` of what lies on the image, without the padding of the batch.

    Attributes:
        total_bits: sum over the image.
        positions: latents that it has: pixels of the latent, regions, or one.
        raw: the bits of each, as ``Information.bits``, with the padding's.
        map: bits per position, ``(H, W)``; None where latents have no position.
        rois: the regions, ``(n, 4)``, in pixels of the network's input, or None.
    """

    total_bits: float
    positions: int
    raw: NDArray[np.float32]
    map: Map | None
    rois: NDArray[np.float32] | None

    @property
    def bits_per_position(self) -> float:
        """Mean over positions; 0 for an image without regions."""
        return self.total_bits / max(self.positions, 1)


def agreement(samples: Tensor) -> float | None:
    """``AttentionResult.consistency`` of sampled maps ``(L_a, ...)``."""
    first, second = torch.triu_indices(len(samples), len(samples), offset=1)
    if not len(first):
        return None
    return map_similarity(samples[first], samples[second]).mean().item()


def place_information(
    information: Information | None, meta: dict[str, Any], frame: str
) -> PlacedInformation | None:
    """Drop what lies on the padding of the batch."""
    if information is None:
        return None
    bits = information.bits.float().cpu()
    total, positions, placed = information.total, information.positions, None
    if bits.dim() == 2:
        placed = _place(bits[None], meta, frame)
        # Which positions some pixel of the image falls on.
        index = torch.arange(bits.numel()).view(1, *bits.shape).float()
        inside = map_on_image(index, meta, 'img_shape', smooth=False).unique().long()
        total = bits.flatten()[inside].double().sum().item()
        positions = len(inside)
    rois = None if information.rois is None else information.rois.float().cpu().numpy()
    return PlacedInformation(total, positions, bits.numpy(), placed, rois)


def _place(maps: Tensor, meta: dict[str, Any], frame: str, smooth: bool = True) -> Map:
    placed = map_on_image(maps.float().cpu(), meta, frame, smooth)
    return np.ascontiguousarray(placed.numpy())


def levels_of(
    source: MapSource,
    record: AttentionRecord,
    level: str | int,
    windows: Windows | None = None,
    images: int | None = None,
) -> tuple[list[AttentionMaps], str | int]:
    """What ``combine_levels`` takes: the levels of a source, in the model's order.

    Args:
        source: source of the maps.
        record: what one batch left.
        level: what ``combine_levels`` is to take; there must be so many.
        windows: the windows of slide inference.
        images: size of the batch; None is not checked.

    Raises:
        InferenceError: several passes for one batch, which are not those of the
            windows; maps of another number of images; or not so many levels.
    """
    levels: list[AttentionMaps] = []
    for name, passes in record.items():
        whole = whole_levels(passes, windows)
        if whole is None:
            raise InferenceError(
                f'the model goes {len(passes)} times through {name!r} for one batch, '
                'so that no map is that of its prediction: test it without '
                'augmentation, in one pass or by slide inference; of another source '
                'name a module that runs once, in the backbone or the neck'
            )
        counts = {len(maps.mean) for maps in whole} - {images}
        if images is not None and counts:
            raise InferenceError(
                f'{name!r} gives {counts.pop()} maps of {images} images: name a module '
                'that gives a map of each image, in the backbone or the neck'
            )
        levels += whole
    if isinstance(level, int) and level >= len(levels):
        raise InferenceError(
            f'level must be less than {len(levels)}, the number of levels that have '
            f'maps, got {level}'
        )
    return merged(source, levels, level)


def of_image(maps: AttentionMaps, i: int) -> AttentionMaps:
    """One image of a batch, as a batch of one, on the CPU; all but indices float32."""
    parts = [None if x is None else x[..., i : i + 1, :, :, :].cpu() for x in maps]
    return AttentionMaps._make(
        x.float() if x is not None and x.is_floating_point() else x for x in parts
    )
