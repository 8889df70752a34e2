"""What attention is compared with: occlusion, and maps that see no image."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aib_mm.errors import check_count
from aib_mm.interpret.ties import SCORE_ROUNDING
from aib_mm.utils.libraries import require_library

#: Std of ``center_map``, in sides of the image.
CENTER_STD = 0.25


def occlusion_map(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    window: int,
    stride: int,
    baseline: float = 0.0,
) -> Tensor:
    """Fall of a class's score when a square hides the place, by captum.

    A square goes over the image in steps; each pixel has the mean fall under the
    squares that hide it (Zeiler and Fergus, "Visualizing and understanding
    convolutional networks", 4.2).

    Args:
        predict: maps images to scores ``(B, K)`` in [0, 1]; called once a place.
        images: ``(B, C, H, W)``, as ``predict`` takes them.
        targets: ``(B,)``, the class of each image.
        window: side of the square in pixels.
        stride: pixels from one place to the next, at most ``window``.
        baseline: value of the square.

    Returns:
        ``(B, H, W)``; negative where hiding the place helps the class, 0 where the
        score changes by rounding alone.

    Raises:
        ValueError: a window that does not fit, a stride that leaves pixels out.
        MissingLibraryError: captum is not installed.
    """
    check_count('stride', stride, 1)
    check_count('window', window, stride)
    channels, height, width = images.shape[1:]
    if window > min(height, width):
        raise ValueError(
            f'a window of {window}×{window} pixels does not fit into {height}×{width}'
        )
    require_library('captum.attr', 'captum', 'occlusion maps')
    from captum.attr import Occlusion

    falls = Occlusion(predict).attribute(
        images,
        sliding_window_shapes=(channels, window, window),
        strides=(channels, stride, stride),
        baselines=baseline,
        target=targets,
    )
    return F.hardshrink(falls[:, 0], SCORE_ROUNDING)


def center_map(size: tuple[int, int]) -> Tensor:
    """A Gaussian around the image's centre, ``(H, W)``: where photographers aim."""
    rows, columns = (
        torch.exp(-(((torch.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * CENTER_STD**2))
        for n in size
    )
    return rows.unsqueeze(1) * columns


def random_map(size: tuple[int, int], generator: np.random.Generator) -> Tensor:
    """A map ``(H, W)``, every pixel by itself, uniform in [0, 1)."""
    return torch.from_numpy(generator.random(size, dtype=np.float32))
