"""Edits of images that should not move the attention (paper, 4.3).

All work on one image or a batch of tensors whose pixels are in [0, 255], before the
normalisation of a network. What is random is drawn from a ``numpy`` generator that the
caller gives; ``generator_for`` makes the one that belongs to an image of a data set, so
that an edit depends neither on the model nor on the batch an image is in.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aib_mm.errors import check_count, choose

PIXEL_MAX = 255.0
FITS = ('crop', 'resize')


def generator_for(seed: int, name: str, index: int) -> np.random.Generator:
    """The random numbers of the edit ``name`` of the image at ``index``.

    Raises:
        ValueError: a negative seed or index.
    """
    check_count('seed', seed, 0)
    check_count('index', index, 0)
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index])


def occlude_with_color(
    image: Tensor, size: int, generator: np.random.Generator
) -> Tensor:
    """A square of one colour at a random place.

    The place is uniform among those that lie wholly inside the image; the colour is
    uniform among the whole numbers 0 to 255, each channel by itself.

    Args:
        image: ``(C, H, W)``.
        size: p, the side of the square in pixels.
        generator: gives the row, the column and the colour, in this order.

    Returns:
        The edited image, shape and type as ``image``; in [0, 255] if that is.

    Raises:
        ValueError: another shape, or a square that does not fit.
    """
    window = _place(image, size, generator)
    color = generator.integers(0, int(PIXEL_MAX) + 1, size=len(image))
    edited = image.clone()
    edited[window] = torch.as_tensor(color).to(image)[:, None, None]
    return edited


def occlude_with_patch(
    image: Tensor,
    size: int,
    source: Sequence[Tensor],
    generator: np.random.Generator,
    fit: str = 'crop',
) -> Tensor:
    """A square from another image at a random place, uniform as for a colour.

    Args:
        image: ``(C, H, W)``.
        size: p, the side of the square in pixels.
        source: images ``(C, h, w)``, one of which is drawn, uniformly.
        generator: gives the row, the column, the image and the place in it, in this
            order.
        fit: ``'crop'`` takes p × p pixels at a random place of the other image;
            ``'resize'`` the whole of it, brought to p × p (bilinear, antialiased, in
            [0, 255] as the image is).

    Returns:
        The edited image, shape and type as ``image``.

    Raises:
        ValueError: another shape, a square that does not fit, an empty source, another
            number of channels, an unknown ``fit``.
    """
    choose('fit', fit, FITS)
    window = _place(image, size, generator)
    if not len(source):
        raise ValueError('source must hold at least one image, got none')
    number = int(generator.integers(len(source)))
    other = source[number]
    if other.dim() != 3 or len(other) != len(image):
        raise ValueError(
            f'image {number} of the source must be ({len(image)}, h, w) like the image '
            f'it goes into, got {tuple(other.shape)}'
        )
    if fit == 'crop':
        patch = other[_place(other, size, generator)]
    else:
        patch = F.interpolate(
            other[None].float(), (size, size), mode='bilinear', antialias=True
        )[0]
        if not image.is_floating_point():
            patch = patch.round()
    edited = image.clone()
    edited[window] = patch.to(image)
    return edited


def squared_radius(height: int, width: int) -> Tensor:
    """r² of every coefficient of ``torch.fft.fft2``, ``(H, W)``, whole numbers.

    The radius r of a coefficient is its Euclidean distance from the zero frequency
    after ``fftshift``, where one step along either axis is one cycle per image: the
    coefficient of k cycles down and l cycles across has r² = k² + l². Along a side of n
    pixels frequencies go from -(n // 2) to (n - 1) // 2. (The radius of Wang et al.,
    "High-frequency component helps explain the generalization of convolutional neural
    networks", which the paper cites.)
    """
    down, across = _frequencies(height), _frequencies(width)
    return down[:, None] ** 2 + across[None, :] ** 2


def high_frequencies(image: Tensor, radius: float, clip: bool = False) -> Tensor:
    """What is left of the coefficients with ``r > radius``; the mean is not.

    With ``low_frequencies`` of the same radius and the coefficients that have exactly
    this radius, which belong to neither, it adds up to the image.

    Args:
        image: ``(..., H, W)``; each channel is transformed by itself.
        radius: radius in cycles per image, see ``squared_radius``; not negative.
        clip: whether to clip to [0, 255]. By default values stay: about half of them
            are negative.

    Returns:
        The filtered image, shape as ``image``, floating point.

    Raises:
        ValueError: a negative radius.
    """
    return _filter(image, radius, clip, high=True)


def low_frequencies(image: Tensor, radius: float, clip: bool = False) -> Tensor:
    """What is left of the coefficients with ``r < radius``; the mean is.

    Arguments, result and errors as for ``high_frequencies``. Values can leave [0, 255]
    by a little, at edges.
    """
    return _filter(image, radius, clip, high=False)


@dataclass(frozen=True)
class ColorBlock:
    """``occlude_with_color``."""

    size: int

    @property
    def name(self) -> str:
        return f'color p={self.size}'

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        return occlude_with_color(image, self.size, generator)


@dataclass(frozen=True)
class Patch:
    """``occlude_with_patch``."""

    size: int
    source: Sequence[Tensor]
    fit: str = 'crop'

    @property
    def name(self) -> str:
        return f'patch p={self.size}'

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        return occlude_with_patch(image, self.size, self.source, generator, self.fit)


@dataclass(frozen=True)
class Frequencies:
    """``high_frequencies``, or ``low_frequencies``; nothing is random."""

    radius: float
    high: bool
    clip: bool = False

    @property
    def name(self) -> str:
        return f'r {">" if self.high else "<"} {self.radius:g}'

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        return _filter(image, self.radius, self.clip, self.high)


#: A column of the paper's Table 8, called with an image ``(C, H, W)`` and the random
#: numbers, which depend on its name.
Edit = ColorBlock | Patch | Frequencies


def _place(
    image: Tensor, size: int, generator: np.random.Generator
) -> tuple[slice, slice, slice]:
    """A random window of p × p pixels inside an image."""
    if image.dim() != 3:
        raise ValueError(f'an image must be (C, H, W), got {tuple(image.shape)}')
    check_count('size', size, 1)
    height, width = image.shape[1:]
    if size > min(height, width):
        raise ValueError(
            f'a window of {size}×{size} pixels does not fit into an image of '
            f'{height}×{width}'
        )
    top, left = (int(generator.integers(n - size + 1)) for n in (height, width))
    return slice(None), slice(top, top + size), slice(left, left + size)


def _frequencies(side: int) -> Tensor:
    """Cycles per image of each coefficient along a side, in ``fft``'s order."""
    k = torch.arange(side)
    return torch.where(k < (side + 1) // 2, k, k - side)


def _filter(image: Tensor, radius: float, clip: bool, high: bool) -> Tensor:
    if not radius >= 0:
        raise ValueError(f'radius must be >= 0, got {radius!r}')
    image = image if image.is_floating_point() else image.float()
    squared = squared_radius(image.shape[-2], image.shape[-1]).to(image.device)
    kept = squared > radius**2 if high else squared < radius**2
    # The kept coefficients are symmetric about the zero frequency: the result is real.
    filtered = torch.fft.ifft2(torch.fft.fft2(image) * kept).real
    return filtered.clamp(0, PIXEL_MAX) if clip else filtered
