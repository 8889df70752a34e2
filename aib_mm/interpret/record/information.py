"""Information in a latent: its divergence, collected from any model, image by image.

Every stochastic layer of this package returns a ``Latent``. Its divergence is an upper
bound on I(Z; X, A) (paper, Eq. 9), here in bits, so that models compare.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aib_mm.encoders import GaussianLayer, Latent, LatentEncoder
from aib_mm.gaussian import kl_elements
from aib_mm.interpret.record.recording import watch
from aib_mm.interpret.record.windows import Windows

BITS = 1.0 / math.log(2.0)


class LatentRows(NamedTuple):
    """One latent of one forward pass, or that of a part of the attention's samples.

    ``bits`` is ``(L·n, ...)``, sample-major: ``KL[p(z|x, a) ‖ N(0, I)]`` summed over K.
    ``rois`` is ``(L·n, 5)`` where a row belongs to a region, whose first number is the
    place of its image in the sample-major batch; else None, and a row is an image.
    Parts have the same ``source``, the name of the module that drew. ``images``
    ``(n,)`` are the places in the batch of the images that the rows are of; None
    where these are all of the batch.
    """

    bits: Tensor
    rois: Tensor | None
    source: str | None = None
    images: Tensor | None = None


@dataclass(frozen=True)
class Information:
    """What the latents of one image tell, in bits, averaged over attention samples.

    Attributes:
        bits: per position ``(h, w)``, over the network's input with its padding; per
            region ``(n,)``; or of the image as a whole, ``()``.
        rois: the regions, ``(n, 4)``, left, top, right, bottom, in pixels of the
            network's input.
    """

    bits: Tensor
    rois: Tensor | None = None

    @property
    def total(self) -> float:
        """Bits of the image: the sum over positions or regions."""
        return self.bits.double().sum().item()

    def cpu(self) -> 'Information':
        """The same on the CPU, with nothing of the batch that it is of."""
        rois = None if self.rois is None else self.rois.cpu()
        return Information(self.bits.clone().cpu(), rois)

    @property
    def positions(self) -> int:
        """Number of latents of the image: pixels, regions, or one."""
        return self.bits.numel()


@contextmanager
def record_latents(
    model: nn.Module, roi_extractors: Sequence[nn.Module] = ()
) -> Iterator[list[LatentRows]]:
    """Collect the latents of every forward pass inside the ``with`` block, detached.

    Args:
        model: model; it is left as it was, also when the block raises.
        roi_extractors: modules that are called with features and RoIs ``(L·n, 5)``
            before latents are drawn, one for each RoI.

    Yields:
        One entry per latent, in the order of drawing, or several with one ``source``
        where the samples of the attention are encoded one after the other, perhaps of
        fewer and fewer images (``AIBClsHead(adaptive=…)``); none for a
        latent whose density is not known (``NoiseEncoder``, or ``GaussianLayer``'s
        mean latent instead of a sample).
    """
    rows: list[LatentRows] = []
    rois: list[Tensor] = []

    def keep_rois(name: str, inputs: tuple[Any, ...], features: Any) -> None:
        rois[:] = [inputs[1].detach()]

    def keep(name: str, inputs: Any, latent: Latent) -> None:
        if latent.mean is not None and latent.std is not None:
            nats = kl_elements(latent.mean.detach(), latent.std.detach()).sum(dim=1)
            region = rois[0] if rois else None
            rows.append(LatentRows(nats * BITS, region, name, latent.images))

    latents = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LatentEncoder | GaussianLayer)
    }
    extractors = {str(i): module for i, module in enumerate(roi_extractors)}
    with watch(extractors, keep_rois), watch(latents, keep):
        yield rows


def information_of_images(
    rows: Sequence[LatentRows], batch_size: int, windows: Windows | None = None
) -> list[Information | None]:
    """What the latents of one prediction of a batch tell of each of its images.

    Several latents of a region (its class and its box) or of an image are summed. The
    regions of a cascade are those of all its stages.

    Args:
        rows: latents in the order of drawing.
        batch_size: number of images.
        windows: windows in slide inference, whose latents have positions. Where windows
            overlap, a position's bits are their mean.

    Returns:
        One per image, None where there is no latent of known density.

    Raises:
        ValueError: latents of different shapes, which have no common positions.
    """
    if not rows:
        return [None] * batch_size
    if windows is not None:
        parts = [_sum(part, batch_size) for part in _by_window(rows, windows)]
        return [
            Information(windows.average([one.bits for one in of_image]))
            for of_image in zip(*parts, strict=True)
        ]
    return list(_sum(rows, batch_size))


def _by_window(
    rows: Sequence[LatentRows], windows: Windows
) -> Iterator[list[LatentRows]]:
    """The rows of each window: each source draws equally often in all of them."""
    sources: dict[str | None, list[LatentRows]] = {}
    for latent in rows:
        sources.setdefault(latent.source, []).append(latent)
    count = len(windows.boxes)
    for i in range(count):
        yield [
            latent
            for drawn in sources.values()
            for latent in drawn[i * len(drawn) // count : (i + 1) * len(drawn) // count]
        ]


def _sum(rows: Sequence[LatentRows], batch_size: int) -> list[Information]:
    """Information of each image from one pass over the batch."""
    sources = _by_source(rows)
    if rows[0].rois is None:
        means = [_mean_of_images(parts, batch_size) for parts in sources]
        return [Information(one) for one in _total(means)]
    stages: list[tuple[Tensor, list[Tensor]]] = []
    for parts in sources:
        boxes, bits = _mean_of_rois(parts, batch_size)
        # Each stage of a cascade has boxes of its own, perhaps of fewer proposals.
        if not stages or not torch.equal(stages[-1][0], boxes):
            stages.append((boxes, []))
        stages[-1][1].append(bits)
    boxes = torch.cat([boxes for boxes, _ in stages])
    per_roi = torch.cat([_total(latents) for _, latents in stages])
    return [
        Information(per_roi[boxes[:, 0] == i], boxes[boxes[:, 0] == i, 1:])
        for i in range(batch_size)
    ]


def _by_source(rows: Sequence[LatentRows]) -> list[list[LatentRows]]:
    """The parts of each latent together."""
    parts: dict[str | int, list[LatentRows]] = {}
    for i, latent in enumerate(rows):
        parts.setdefault(i if latent.source is None else latent.source, []).append(
            latent
        )
    return list(parts.values())


def _mean_of_images(parts: Sequence[LatentRows], batch_size: int) -> Tensor:
    """The bits of one latent, ``(B, ...)``: of each image the mean over its rows."""
    bits = torch.cat([part.bits for part in parts])
    if all(part.images is None for part in parts):
        return bits.unflatten(0, (-1, batch_size)).mean(0)
    every = torch.arange(batch_size, device=bits.device)
    owners = []
    for part in parts:
        images = every if part.images is None else part.images
        owners.append(images.repeat(len(part.bits) // len(images)))
    owner = torch.cat(owners)
    return torch.stack([bits[owner == i].mean(dim=0) for i in range(batch_size)])


def _mean_of_rois(
    parts: Sequence[LatentRows], batch_size: int
) -> tuple[Tensor, Tensor]:
    """Regions ``(n, 5)`` of one latent, and the mean bits ``(n,)`` of each."""
    # All samples share the regions, in one order; the first part has some of them.
    rois = parts[0].rois
    assert rois is not None
    samples = 1 + int(rois[:, 0].max()) // batch_size if len(rois) else 1
    boxes = rois[: len(rois) // samples]
    bits = torch.cat([part.bits for part in parts])
    return boxes, bits.view(-1, len(boxes)).mean(dim=0) if len(boxes) else bits


def _total(latents: Sequence[Tensor]) -> Tensor:
    """The sum of several latents of one shape."""
    shapes = {tuple(bits.shape) for bits in latents}
    if len(shapes) > 1:
        raise ValueError(
            f'latents of the shapes {sorted(shapes)} in one pass have no common '
            'positions to sum over'
        )
    return torch.stack(list(latents)).sum(dim=0)
