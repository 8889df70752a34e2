"""Ways to modulate features with an attention map: the paper's four, and ``replace``.

The paper's are scale, residual, bias and concat (3.3.1). Under ``replace``, which is
ours, what is not attended to is replaced by noise, so that a map has a price in nats.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.dist import all_reduce, get_world_size
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
        ValueError: another ``how``. Those that own weights or statistics are modules:
            ``BiasModulation``, ``ConcatModulation``, ``ReplaceModulation``.
    """
    if how in MODULES:
        owned = 'statistics' if MODULES[how].per_level else 'a convolution'
        raise ValueError(f'{how!r} owns {owned}: use {MODULES[how].__name__}')
    choose('modulation', how, SCALINGS)
    return SCALINGS[how](x, a.to(x.dtype))


class Modulation(BaseModule):
    """One level's features under a map; leading dimensions of the map broadcast.

    ``(L, N, 1, H, W)`` gives the features under each of L maps.

    Args:
        out_channels: channels of the modulated features.

    Attributes:
        per_level: whether each level needs one of its own, for its statistics.
        is_random: whether it puts noise of its own on the features.
    """

    per_level = False
    is_random = False

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(..., N, 1, H, W)`` to ``(..., N, out, H, W)``."""
        raise NotImplementedError

    def expected(self, x: Tensor, a: Tensor) -> Tensor:
        """Features of ``forward``, without the modulation's own randomness."""
        return self(x, a)

    def observe(self, x: Tensor) -> None:
        """Look at the features of a training batch, once an iteration."""

    def nats(self, x: Tensor, a: Tensor) -> Tensor | None:
        """What each position lets through, nats a channel; None where nobody counts."""
        return None


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

    A channel that never varied in training has the std 1e-5: if it wakes at test, its
    nats are very many.

    Args:
        channels: C.
        momentum: weight of a batch in the running statistics.
    """

    per_level = True
    is_random = True
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
        """Let the running statistics follow a batch ``(N, C, H, W)`` of training.

        Several processes look together, at all their images: with statistics of its own
        each would train another model, of which a checkpoint keeps one.
        """
        mean, std, seen = _batch_statistics(gaussian.at_least_float32(x))
        # The first batch counts whole: no iteration sees statistics of no data.
        weight = torch.where(self.batches == 0, 1.0, self.momentum) * seen
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_std.lerp_(std.to(self.running_std.dtype), weight)
        self.batches.add_(seen)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, 1, H, W)`` to ``(N, C, H, W)``, with noise."""
        kept = self._kept(x, a)
        noise = self._std(kept.dtype) * torch.randn_like(kept)
        return (kept + (1 - self._score(a)) * noise).to(x.dtype)

    def expected(self, x: Tensor, a: Tensor) -> Tensor:
        """``m + a · (x - m)``: the noise at its mean."""
        return self._kept(x, a).to(x.dtype)

    def nats(self, x: Tensor, a: Tensor) -> Tensor:
        """Capacity of each position, ``(..., N, 1, H, W)``, in nats a channel.

        ``KL[N(a·x̂, (1 - a)²) ‖ N(0, 1)]``, averaged over the channels.
        """
        a = self._score(a)
        scaled = (x.to(a.dtype) - self._mean(a.dtype)) / self._std(a.dtype)
        # Channels enter by their mean square alone: no map has to be as large as they.
        power = scaled.square().mean(dim=-3, keepdim=True)
        return 0.5 * (a.square() * power + (1 - a).square() - 1) - (1 - a).log()

    def _kept(self, x: Tensor, a: Tensor) -> Tensor:
        a = self._score(a)
        mean = self._mean(a.dtype)
        return mean + a * (x.to(a.dtype) - mean)

    def _score(self, a: Tensor) -> Tensor:
        """Scores at float32 at least: bfloat16 would round the largest to 1."""
        return gaussian.at_least_float32(a).clamp(0.0, self.MAX_SCORE)

    def _mean(self, dtype: torch.dtype) -> Tensor:
        return self.running_mean.to(dtype)[:, None, None]

    def _std(self, dtype: torch.dtype) -> Tensor:
        # A channel that never varies carries nothing, at any scale.
        return self.running_std.to(dtype).clamp_min(1e-5)[:, None, None]


def _batch_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and std of each channel over the images of all processes, ``(C,)``.

    The last says whether any process has an image: on the device, as all is, so that
    no process waits for its GPU.
    """
    count = x.numel() // x.shape[1]
    if count:
        std, mean = torch.std_mean(x, dim=(0, 2, 3), correction=0)
    else:
        std = mean = x.new_zeros(x.shape[1])
    if get_world_size() == 1:
        return mean, std, mean.new_full((), count > 0, dtype=torch.bool)
    # Double precision: the square of a mean is taken off again.
    mean, std = mean.double(), std.double()
    moments = torch.cat([mean, mean.square() + std.square(), mean.new_ones(1)])
    sums = count * moments
    all_reduce(sums)
    mean, square = (sums[:-1] / sums[-1].clamp_min(1)).chunk(2)
    return mean, (square - mean.square()).clamp_min(0).sqrt(), sums[-1] > 0


REPLACE = 'replace'
MODULES = {
    'bias': BiasModulation,
    'concat': ConcatModulation,
    REPLACE: ReplaceModulation,
}
MODULATIONS = (*SCALINGS, *MODULES)


def build_modulation(how: str, channels: int) -> Modulation:
    """The module for one of ``MODULATIONS``; its ``out_channels`` says what follows.

    Raises:
        ValueError: an unknown ``how``.
    """
    choose('modulation', how, MODULATIONS)
    if how in MODULES:
        return MODULES[how](channels)
    return ScalingModulation(channels, how)


Maps = tuple[Tensor, ...]  # one per level


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
