"""Further samples only for images whose class is not settled.

After H. Inoue, "Adaptive ensemble prediction for deep neural networks based on
confidence level" (AISTATS 2019), which stops asking members of an ensemble once the
leading class is ahead by more than chance explains. Here the members are samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aib_mm.errors import check_count
from aib_mm.gaussian import at_least_float32


@dataclass(frozen=True)
class AdaptiveSampling:
    """Rule of when an image needs no further sample of the attention.

    An image is settled when the gap of its two highest mean class probabilities is at
    least ``margin`` standard errors of that gap, over all draws so far: L_z of each
    attention sample. Draws that share an attention sample are not independent, so that
    the standard error is a lower bound, and far too low under the modulation
    ``'replace'``, whose noise they share. One draw alone settles nothing.

    Attributes:
        margin: least gap in standard errors; infinity never settles.
        min_samples: attention samples that every image gets, before it is asked whether
            it is settled; a noise encoder draws several times for each.

    Raises:
        ValueError: a margin that is not positive, or a count below 1.
    """

    margin: float = 4.0
    min_samples: int = 1

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise ValueError(f'adaptive margin must be positive, got {self.margin!r}')
        check_count('adaptive min_samples', self.min_samples, 1)

    def settled(self, logits: Tensor) -> Tensor:
        """Mask of the images that are settled by their draws, ``(n,)`` bool.

        Args:
            logits: logits of the draws so far, ``(L_z, L_a, n, C)``.
        """
        draws = logits.shape[0] * logits.shape[1]
        if draws < 2:
            return torch.zeros(logits.shape[2], dtype=torch.bool, device=logits.device)
        probabilities = at_least_float32(logits).softmax(dim=-1).flatten(0, 1)
        leading = probabilities.mean(dim=0).topk(2).indices
        first, second = probabilities.gather(
            2, leading.expand(draws, *leading.shape)
        ).unbind(dim=-1)
        gaps = first - second
        errors = gaps.std(dim=0) / draws**0.5
        # Where all draws agree, infinity times 0 is NaN, and settles nothing.
        return gaps.mean(dim=0) >= self.margin * errors


def spread(values: Tensor, images: Tensor, batch_size: int, dim: int) -> Tensor:
    """Values of some images at their places in the batch; NaN for the others.

    Args:
        values: values of images, which are its dimension ``dim``.
        images: their indices in the batch, ``(n,)``.
        batch_size: B.
        dim: dimension of ``values`` that counts images.
    """
    shape = [*values.shape]
    shape[dim] = batch_size
    return values.new_full(shape, float('nan')).index_copy(dim, images, values)


def by_count(
    counts: Tensor, summarize: Callable[[Tensor, int], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Values of images that got different numbers of samples, in the images' order.

    Args:
        counts: samples of each image, ``(B,)``.
        summarize: function from the indices of images that got so many samples,
            and this number, to their values, ``(n, ...)`` by name.

    Returns:
        Values ``(B, ...)`` by name.
    """
    groups = [
        ((counts == count).nonzero().flatten(), int(count)) for count in counts.unique()
    ]
    found = [summarize(*group) for group in groups]
    order = torch.cat([images for images, _ in groups]).argsort()
    return {name: torch.cat([one[name] for one in found])[order] for name in found[0]}
