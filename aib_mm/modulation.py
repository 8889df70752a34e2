"""The four ways to modulate features with an attention map (paper, 3.3.1)."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from aib_mm.errors import choose


def _scale(x: Tensor, a: Tensor) -> Tensor:
    return x * a


def _residual(x: Tensor, a: Tensor) -> Tensor:
    return x * (1 + a)


SCALINGS = {'scale': _scale, 'residual': _residual}


def modulate(x: Tensor, a: Tensor, how: str) -> Tensor:
    """Scale features with an attention map, position by position.

    Args:
        x: features, ``(N, C, H, W)``.
        a: attention, ``(N, 1, H, W)``; any further leading dimensions broadcast.
        how: ``'scale'`` is ``x * a``; ``'residual'`` is ``x + x * a``.

    Raises:
        ValueError: another ``how``. ``bias`` and ``concat`` own a convolution and are
            modules: ``BiasModulation``, ``ConcatModulation``.
    """
    if how in LIFTED:
        raise ValueError(f'{how!r} owns a convolution: use {LIFTED[how].__name__}')
    choose('modulation', how, SCALINGS)
    return SCALINGS[how](x, a.to(x.dtype))


class ScalingModulation(BaseModule):
    """``x_att = x * a``, or ``x + x * a`` with a residual. Owns no parameters.

    In all modulations leading dimensions of ``a`` beyond those of ``x`` broadcast:
    ``(L, N, 1, H, W)`` gives the features under each of L maps.
    """

    def __init__(self, channels: int, how: str) -> None:
        super().__init__()
        self.out_channels = channels
        self.how = how

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, 1, H, W)`` to ``(N, C, H, W)``."""
        return modulate(x, a, self.how)

    def extra_repr(self) -> str:
        return repr(self.how)


class _LiftedModulation(BaseModule):
    """U of the paper: the attention map lifted to C channels by a 3×3 conv, sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lift = nn.Conv2d(1, channels, 3, padding=1)

    def _lifted(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        a = a.to(self.lift.weight.dtype)
        lifted = self.lift(a.flatten(0, -4)).sigmoid()
        return lifted.unflatten(0, a.shape[:-3]).to(dtype)


class BiasModulation(_LiftedModulation):
    """``x_att = x + U(a)``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.out_channels = channels

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, 1, H, W)`` to ``(N, C, H, W)``."""
        return x + self._lifted(a, x.dtype)


class ConcatModulation(_LiftedModulation):
    """``x_att = cat(x, U(a))``: twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.out_channels = 2 * channels

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, 1, H, W)`` to ``(N, 2C, H, W)``."""
        lifted = self._lifted(a, x.dtype)
        return torch.cat([x.expand_as(lifted), lifted], dim=-3)


LIFTED = {'bias': BiasModulation, 'concat': ConcatModulation}
MODULATIONS = (*SCALINGS, *LIFTED)


def build_modulation(how: str, channels: int) -> BaseModule:
    """The module for one of ``MODULATIONS``; its ``out_channels`` says what follows.

    Raises:
        ValueError: an unknown ``how``.
    """
    choose('modulation', how, MODULATIONS)
    if how in LIFTED:
        return LIFTED[how](channels)
    return ScalingModulation(channels, how)
