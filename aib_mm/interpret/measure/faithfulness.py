"""Whether the prediction stands on what the map points at: insertion and deletion.

Pixels go from the image to a baseline, or from the baseline to the image, the most
attended first, and the score of a class is followed (Petsiuk et al., "RISE: Randomized
input sampling for explanation of black-box models", 3.3). A map that finds what decides
has a small area under the deletion curve and a large one under the insertion curve.

Attention that differs by rounding alone is equal (``ties``), so that the order of the
pixels is the map's and not the machine's.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from aib_mm.errors import check_count
from aib_mm.interpret.ties import rounding_of, tie_ranks

#: Images ``(N, C, H, W)`` to class scores ``(N, K)``.
Predict = Callable[[Tensor], Tensor]


def deletion_curve(
    predict: Predict,
    images: Tensor,
    attention: Tensor,
    baseline: Tensor | float,
    targets: Tensor,
    steps: int = 32,
) -> Tensor:
    """Scores while the most attended pixels of the image become the baseline's.

    After step s of S the first ``round(s P / S)`` of the P pixels are exchanged, all
    channels together. Of pixels with equal attention, which counts as equal where it
    differs by rounding alone, those in upper rows, and in a row those at the left, come
    first.

    Args:
        predict: called once per step with the whole batch.
        images: ``(N, C, H, W)``, as ``predict`` takes them.
        attention: ``(N, H, W)``, of the images' size (``resize_map``).
        baseline: the pixels' other value: a number, or a tensor that broadcasts to the
            images, such as blurred images.
        targets: ``(N,)``, whole numbers: the class whose score is followed.
        steps: S.

    Returns:
        ``(N, S + 1)``: the score of the image first, that of the baseline last.

    Raises:
        ValueError: shapes that do not fit; fewer than one step, or more than pixels.
    """
    other = torch.as_tensor(baseline).to(images).expand_as(images)
    return _exchange(predict, images, other, attention, targets, steps)


def insertion_curve(
    predict: Predict,
    images: Tensor,
    attention: Tensor,
    baseline: Tensor | float,
    targets: Tensor,
    steps: int = 32,
) -> Tensor:
    """Scores while the most attended pixels of the baseline become the image's.

    Arguments and errors as for ``deletion_curve``; the baseline's score comes first,
    the image's last.
    """
    other = torch.as_tensor(baseline).to(images).expand_as(images)
    return _exchange(predict, other, images, attention, targets, steps)


def curve_area(curve: Tensor) -> Tensor:
    """Area under curves ``(N, S + 1)``, ``(N,)``: trapezia over [0, 1]."""
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)


@torch.no_grad()
def _exchange(
    predict: Predict,
    start: Tensor,
    end: Tensor,
    attention: Tensor,
    targets: Tensor,
    steps: int,
) -> Tensor:
    """Scores on the way from ``start`` to ``end``."""
    count, _, height, width = start.shape
    pixels = height * width
    if attention.shape != (count, height, width):
        raise ValueError(
            f'attention must be {(count, height, width)} for images of '
            f'{tuple(start.shape)}, got {tuple(attention.shape)}'
        )
    if targets.shape != (count,):
        raise ValueError(
            f'targets must be one class for each of {count} images, got '
            f'{tuple(targets.shape)}'
        )
    check_count('steps', steps, 1)
    if steps > pixels:
        raise ValueError(f'steps must be at most the {pixels} pixels, got {steps}')
    maps = attention.flatten(1).double()
    # Ties stay in their order, which is row by row.
    order = tie_ranks(maps, rounding_of(maps)).argsort(dim=1, stable=True)
    # The place of each pixel in that order.
    rank = order.argsort(dim=1).view(count, 1, height, width)
    scores = []
    for step in range(steps + 1):
        exchanged = rank < round(step * pixels / steps)
        found = predict(torch.where(exchanged, end, start))
        scores.append(found.gather(1, targets.unsqueeze(1)).squeeze(1))
    return torch.stack(scores, dim=1)
