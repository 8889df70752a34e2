"""Ways to modulate features with an attention map: the paper's four, and ``replace``.

The paper's are scale, residual, bias and concat (3.3.1). Under ``replace``, which is
ours, what is not attended to is replaced by noise, so that a map has a price in nats.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from aib_mm import gaussian
from aib_mm.errors import choose
from aib_mm.noise import FeatureNoise


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


class Modulation(BaseModule):
    """One level's features under a map; leading dimensions of the map broadcast.

    ``(L, N, 1, H, W)`` gives the features under each of L maps.

    Args:
        out_channels: channels of the modulated features.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(..., N, 1, H, W)`` to ``(..., N, out, H, W)``."""
        raise NotImplementedError

    def expected(self, x: Tensor, a: Tensor) -> Tensor:
        """Features of ``forward``, without the modulation's own randomness."""
        return self(x, a)


class ScalingModulation(Modulation):
    """``x_att = x * a``, or ``x + x * a`` with a residual. Owns no parameters."""

    def __init__(self, channels: int, how: str) -> None:
        super().__init__(channels)
        self.how = how

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, 1, H, W)`` to ``(N, C, H, W)``."""
        return modulate(x, a, self.how)

    def extra_repr(self) -> str:
        return repr(self.how)


class _LiftedModulation(Modulation):
    """U of the paper: the attention map lifted to C channels by a 3×3 conv, sigmoid."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(out_channels)
        self.lift = nn.Conv2d(1, channels, 3, padding=1)

    def _lifted(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        a = a.to(self.lift.weight.dtype)
        lifted = self.lift(a.flatten(0, -4)).sigmoid()
        return lifted.unflatten(0, a.shape[:-3]).to(dtype)


class BiasModulation(_LiftedModulation):
    """``x_att = x + U(a)``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, 1, H, W)`` to ``(N, C, H, W)``."""
        return x + self._lifted(a, x.dtype)


class ConcatModulation(_LiftedModulation):
    """``x_att = cat(x, U(a))``: twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2 * channels)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, 1, H, W)`` to ``(N, 2C, H, W)``."""
        lifted = self._lifted(a, x.dtype)
        return torch.cat([x.expand_as(lifted), lifted], dim=-3)


class ReplaceModulation(Modulation):
    r"""Replaces what is not attended to by noise of the features' own statistics.

    .. math:: x_{att} = m + s\,(a\hat{x} + (1 - a)\varepsilon), \quad
        \hat{x} = (x - m) / s, \quad \varepsilon \sim N(0, I)

    ``m`` and ``s`` are running mean and std per channel. With ``a`` near 1 the features
    pass unaltered, so that a warm start from a vanilla model works; with ``a = 0`` only
    noise passes, which the following layers cannot undo. Ours, after Schulz et al.,
    "Restricting the flow: information bottlenecks for attribution" (ICLR 2020), who put
    such noise on trained networks to explain them; ``docs/method.md`` has the bound.

    Args:
        channels: C.
        momentum: weight of a batch in the running statistics.
    """

    MAX_SCORE = 0.999  # a certain 1 would let infinitely many nats through

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__(channels)
        self.momentum = momentum
        self.running_mean: Tensor
        self.running_std: Tensor
        self.batches: Tensor
        self.register_buffer('running_mean', torch.zeros(channels))
        self.register_buffer('running_std', torch.ones(channels))
        self.register_buffer('batches', torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Let the running statistics follow a batch ``(N, C, H, W)`` of training."""
        if not x.numel():
            return
        std, mean = torch.std_mean(x.float(), dim=(0, 2, 3), correction=0)
        # The first batch counts whole: no iteration sees statistics of no data.
        weight = torch.where(self.batches == 0, 1.0, self.momentum)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_std.lerp_(std.to(self.running_std.dtype), weight)
        self.batches.add_(1)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, 1, H, W)`` to ``(N, C, H, W)``, with noise."""
        kept = self.expected(x, a)
        noise = torch.randn_like(kept)
        return kept + (1 - self._score(a, x.dtype)) * self._std(x.dtype) * noise

    def expected(self, x: Tensor, a: Tensor) -> Tensor:
        """``m + a · (x - m)``: the noise at its mean."""
        mean = self.running_mean.to(x.dtype)[:, None, None]
        return mean + self._score(a, x.dtype) * (x - mean)

    def nats(self, x: Tensor, a: Tensor) -> Tensor:
        """Capacity of each position, ``(..., N, 1, H, W)``, in nats a channel.

        ``KL[N(a·x̂, (1 - a)²) ‖ N(0, 1)]``, averaged over the channels.
        """
        a = self._score(a, torch.float32)
        mean = self.running_mean.float()[:, None, None]
        normed = (x.float() - mean) / self._std(torch.float32)
        kl = gaussian.kl_elements(a * normed, (1 - a).expand_as(a * normed))
        return kl.mean(dim=-3, keepdim=True)

    def _score(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        return a.clamp(0, self.MAX_SCORE).to(dtype)

    def _std(self, dtype: torch.dtype) -> Tensor:
        # A channel that never varies carries nothing, at any scale.
        return self.running_std.clamp_min(1e-5).to(dtype)[:, None, None]


LIFTED = {'bias': BiasModulation, 'concat': ConcatModulation}
REPLACE = 'replace'
MODULATIONS = (*SCALINGS, *LIFTED, REPLACE)


def build_modulation(how: str, channels: int) -> Modulation:
    """The module for one of ``MODULATIONS``; its ``out_channels`` says what follows.

    Raises:
        ValueError: an unknown ``how``.
    """
    choose('modulation', how, MODULATIONS)
    if how in LIFTED:
        return LIFTED[how](channels)
    if how == REPLACE:
        return ReplaceModulation(channels)
    return ScalingModulation(channels, how)


Maps = tuple[Tensor, ...]


class Modulator(NamedTuple):
    """Function from features and attention maps to what heads see, on all levels.

    Attributes:
        modulations: one per level, or one that serves all.
        noise: noise on the features, before the modulation; None without.
        post_neck: neck that runs after the modulation, on every sample; None without.
    """

    modulations: Sequence[Modulation]
    noise: FeatureNoise | None = None
    post_neck: nn.Module | None = None

    def with_noise(self, feats: Sequence[Tensor], num_samples: int) -> Sequence[Tensor]:
        """Features as the modulation takes them: with noise ``(L_z, B, C, H, W)``."""
        if self.noise is None:
            return feats
        return [self.noise(x, num_samples) for x in feats]

    def __call__(self, feats: Sequence[Tensor], maps: Sequence[Tensor]) -> Maps:
        """Features under each of several maps.

        Args:
            feats: what ``with_noise`` gave, per level.
            maps: maps per level, ``(L_a, B, 1, H, W)``, or one map, ``(B, 1, H, W)``.

        Returns:
            Per level ``(L_a·L_z·B, C, H, W)``, sample-major.
        """
        return self._run(feats, maps, expected=False)

    def expected(self, feats: Sequence[Tensor], maps: Sequence[Tensor]) -> Maps:
        """Features of ``__call__``, without the modulation's own randomness."""
        return self._run(feats, maps, expected=True)

    def _run(
        self, feats: Sequence[Tensor], maps: Sequence[Tensor], expected: bool
    ) -> Maps:
        outs: list[Tensor] = []
        for level, (x, a) in enumerate(zip(feats, maps, strict=True)):
            a = a.unsqueeze(0) if a.dim() == 4 else a
            if self.noise is not None:
                a = a.unsqueeze(1).expand(-1, x.shape[0], -1, -1, -1, -1)
            modulation = self.modulations[level % len(self.modulations)]
            out = modulation.expected(x, a) if expected else modulation(x, a)
            outs.append(out.flatten(0, -4))
        found = outs if self.post_neck is None else self.post_neck(tuple(outs))
        return (found,) if isinstance(found, Tensor) else tuple(found)
