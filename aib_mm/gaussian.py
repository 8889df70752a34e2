"""Diagonal Gaussians: parameters, samples, and the divergence from N(0, I).

The attention map (paper, 3.3.1) and the latent (paper, 3.3.2) are both distributed
as ``N(mean, std²)``, element by element.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from aib_mm.errors import choose

REDUCTIONS = ('mean', 'sum')  # over the latent dimensions

# Below about 1e-38 the gradient 1 / std of the divergence overflows float32.
MIN_STD = 1e-30


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32, which half precision is too coarse for; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def softplus_std(raw: Tensor, shift: float = 5.0) -> Tensor:
    """Standard deviation from an unconstrained prediction: ``softplus(raw - shift)``.

    The paper says softplus; the shift of 5 is the authors' released code. It starts
    the noise small (0.0067 at ``raw = 0``), so that training begins almost
    deterministically. Computed in float32 at least, and never below ``MIN_STD``.
    """
    return F.softplus(at_least_float32(raw) - shift).clamp_min(MIN_STD)


def split_mean_std(parameters: Tensor, shift: float = 5.0) -> tuple[Tensor, Tensor]:
    """Split ``(N, 2K, ...)`` into mean and std, each ``(N, K, ...)``.

    The first K channels are the mean, the last K the std before ``softplus_std``
    (paper, 4.1.1).

    Raises:
        ValueError: ``parameters`` has an odd number of channels.
    """
    size = parameters.shape[1]
    if size % 2:
        raise ValueError(
            'mean and std need an even number of channels, '
            f'got {size} (shape {tuple(parameters.shape)})'
        )
    mean, raw = parameters.chunk(2, dim=1)
    std = softplus_std(raw, shift)
    return mean.to(std.dtype), std


def sample(mean: Tensor, std: Tensor, num_samples: int) -> Tensor:
    """Draw ``mean + std * eps``, ``eps ~ N(0, I)``, with gradients to both.

    Args:
        mean: means, of any shape.
        std: standard deviations, shaped as ``mean``.
        num_samples: number of draws; 0 stands for the mean itself, without randomness.

    Returns:
        ``(max(num_samples, 1), *mean.shape)``.
    """
    if num_samples == 0:
        return mean.unsqueeze(0)
    noise = torch.randn(num_samples, *mean.shape, dtype=mean.dtype, device=mean.device)
    return mean + std * noise


def sample_blocks(mean: Tensor, std: Tensor, num_samples: int, blocks: int) -> Tensor:
    """``sample``, drawn for one block of rows after the other.

    What a block draws does not depend on how many blocks there are after it, and the
    noise of all of them is never held at once.

    Args:
        mean: ``(blocks·N, ...)``.
        std: standard deviations, shaped as ``mean``.
        num_samples: number of draws, see ``sample``.
        blocks: number of blocks.

    Returns:
        ``(max(num_samples, 1), blocks·N, ...)``.
    """
    if blocks == 1 or num_samples == 0:
        return sample(mean, std, num_samples)
    pairs = zip(
        mean.unflatten(0, (blocks, -1)), std.unflatten(0, (blocks, -1)), strict=True
    )
    return torch.cat([sample(*pair, num_samples) for pair in pairs], dim=1)


def kl_to_standard_normal(mean: Tensor, std: Tensor, reduction: str = 'mean') -> Tensor:
    r"""``KL[N(mean, std²) ‖ N(0, I)]`` in nats (paper, Eq. 19).

    .. math:: -\frac{1}{2K} \sum_{i=1}^{K} (1 + \log\sigma_i^2 - \mu_i^2 - \sigma_i^2)

    Args:
        mean: ``(N, K)`` or ``(N, K, H, W)``.
        std: standard deviations, positive, shaped as ``mean``.
        reduction: ``'mean'``, as Eq. 19: over the K latent dimensions, the batch and
            the positions. ``'sum'``: over K, then the mean over the rest, which is the
            divergence of the whole latent and what the released code uses.

    Returns:
        A scalar; 0 for an empty batch (a detector without proposals).

    Raises:
        ValueError: an unknown reduction, or shapes that differ.
    """
    choose('reduction', reduction, REDUCTIONS)
    kl = kl_elements(mean, std)
    return mean_or_zero(kl if reduction == 'mean' else kl.sum(dim=1))


def mean_or_zero(values: Tensor) -> Tensor:
    """Mean of all elements; 0 if there are none, still connected to the graph."""
    return values.sum() / max(values.numel(), 1)


def kl_elements(mean: Tensor, std: Tensor, prior_std: float = 1.0) -> Tensor:
    """``KL[N(mean, std²) ‖ N(0, prior_std²)]`` of each element, in nats.

    Raises:
        ValueError: shapes that differ.
    """
    if mean.shape != std.shape:
        raise ValueError(
            'mean and std must have the same shape, got '
            f'{tuple(mean.shape)} and {tuple(std.shape)}'
        )
    if prior_std != 1.0:
        mean, std = mean / prior_std, std / prior_std
    return 0.5 * (mean.square() + std.square() - 1.0) - std.log()
