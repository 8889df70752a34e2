"""Where the attention lies, against the object's mask.

All functions take a batch of maps and a batch of masks of the same size, so that the
resizing, which is a choice, is the caller's and visible.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_map(attention: Tensor, size: tuple[int, int]) -> Tensor:
    """Attention ``(N, 1, h, w)`` at ``size``, bilinearly; ``(N, H, W)``."""
    resized = F.interpolate(attention, size, mode='bilinear', align_corners=False)
    return resized.squeeze(1)


def attention_energy(attention: Tensor, mask: Tensor) -> Tensor:
    """Share of the attention that lies on the object, ``(N,)`` in [0, 1].

    The minimum of each map is taken off first, since a constant selects nothing; a map
    that is constant has its energy spread evenly, and so the mask's share of the area.

    Args:
        attention: ``(N, H, W)``.
        mask: ``(N, H, W)``, bool.
    """
    _check(attention, mask)
    maps = attention.flatten(1).double()
    maps = maps - maps.amin(dim=1, keepdim=True)
    total = maps.sum(dim=1, keepdim=True)
    uniform = torch.full_like(maps, 1.0 / maps.shape[1])
    share = torch.where(total == 0, uniform, maps / total)
    return (share * mask.flatten(1)).sum(dim=1)


def pointing_game(attention: Tensor, mask: Tensor, tolerance: int = 0) -> Tensor:
    """Whether the maximum of each map falls on the object, ``(N,)`` in [0, 1].

    Where several positions share the maximum it is the share of them on the object,
    which is the chance of a hit if one is drawn.

    Args:
        attention: ``(N, H, W)``.
        mask: ``(N, H, W)``, bool.
        tolerance: pixels by which a maximum may miss the object, in any direction.
    """
    _check(attention, mask)
    maps = attention.flatten(1)
    peak = maps == maps.amax(dim=1, keepdim=True)
    hits = peak & dilate(mask, tolerance).flatten(1)
    return hits.sum(dim=1).double() / peak.sum(dim=1)


def dilate(mask: Tensor, pixels: int) -> Tensor:
    """Grow a bool mask ``(N, H, W)`` by ``pixels`` in all eight directions."""
    if pixels == 0:
        return mask
    size = 2 * pixels + 1
    grown = F.max_pool2d(mask.unsqueeze(1).float(), size, stride=1, padding=pixels)
    return grown.squeeze(1) > 0


def _check(attention: Tensor, mask: Tensor) -> None:
    if attention.dim() != 3 or attention.shape != mask.shape:
        raise ValueError(
            'attention and mask must both be (N, H, W), got '
            f'{tuple(attention.shape)} and {tuple(mask.shape)}'
        )
    if mask.dtype != torch.bool:
        raise ValueError(f'mask must be bool, got {mask.dtype}')
