"""Encoders ``p(z|x, a)``: from attended features to the latent z (paper, 3.3.2)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from aib_mm import gaussian
from aib_mm.errors import check_count, check_number
from aib_mm.registry import build_part


class Latent(NamedTuple):
    """Samples of z and, where its density is known, mean and std.

    ``samples`` is ``(L_z, N, K)``, or ``(L_z, N, K, H, W)`` for a latent per position;
    ``mean`` and ``std`` are one such sample in shape, or None. ``images`` ``(n,)``
    are the places in the batch of the images that the rows belong to, sample-major;
    None where these are all of the batch.
    """

    samples: Tensor
    mean: Tensor | None = None
    std: Tensor | None = None
    images: Tensor | None = None


def join_latents(latents: Sequence[Latent]) -> Latent:
    """Latents of the rows of one batch, which was encoded in parts."""
    if len(latents) == 1:
        return latents[0]
    samples, means, stds, _ = zip(*latents, strict=True)
    return Latent(torch.cat(samples, dim=1), cat_known(means), cat_known(stds))


def cat_known(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The parts end to end; None if one of them is."""
    known = [part for part in parts if part is not None]
    return torch.cat(known) if len(known) == len(parts) else None


class LatentEncoder(BaseModule):
    """Body, global average pooling, and one FC layer to the latent.

    Args:
        body: config of the module between attended features and pooling; it has
            ``out_channels`` and gives a map or a tuple of maps, of which the last
            counts. None pools the features themselves.
        latent_dim: K.
        in_features: channels after the body; needed only if ``body`` has no
            ``out_channels``.
    """

    has_density: bool
    parameters_per_dim: int

    def __init__(
        self,
        body: dict | None = None,
        latent_dim: int = 256,
        in_features: int | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_count('latent_dim', latent_dim, 1)
        self.body = build_part(body)
        in_features = in_features or getattr(self.body, 'out_channels', None)
        if in_features is None:
            raise ValueError(
                f'{type(self).__name__} cannot tell the channels of its body '
                f'{body!r}: set in_features'
            )
        self.latent_dim = latent_dim
        self.fc = nn.Linear(in_features, self.parameters_per_dim * latent_dim)

    def forward(
        self,
        x: Tensor,
        num_samples: int,
        blocks: int = 1,
        images: Tensor | None = None,
    ) -> Latent:
        """Features to z.

        Args:
            x: ``(N, C, H, W)``, or pooled already, ``(N, C)``.
            num_samples: draws; 0 is the mean latent.
            blocks: samples of the attention in ``x``; see ``gaussian.sample_blocks``.
            images: what ``Latent.images`` says, for whoever records latents.
        """
        raise NotImplementedError

    def _encode(self, x: Tensor) -> Tensor:
        h = x if self.body is None else self.body(x)
        h = h[-1] if isinstance(h, tuple | list) else h
        return self.fc(h.flatten(2).mean(dim=-1) if h.dim() > 2 else h)


@MODELS.register_module()
class GaussianEncoder(LatentEncoder):
    """``z ~ N(mean, std²)``, both from one FC layer of 2K outputs (Fig. 5a).

    Mean, std and the draw are float32 also under autocast.

    Args:
        std_shift: shift of ``gaussian.softplus_std``; 0 is the paper's softplus.
        kwargs: arguments of ``LatentEncoder``.
    """

    has_density = True
    parameters_per_dim = 2

    def __init__(self, std_shift: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_number('std_shift', std_shift)
        self.std_shift = std_shift

    def forward(
        self,
        x: Tensor,
        num_samples: int,
        blocks: int = 1,
        images: Tensor | None = None,
    ) -> Latent:
        mean, std = gaussian.split_mean_std(self._encode(x), shift=self.std_shift)
        z = gaussian.sample_blocks(mean, std, num_samples, blocks)
        return Latent(z, mean, std, images)


class GaussianLayer(BaseModule):
    """``z ~ N(mean, std²)`` from two layers side by side.

    For hosts whose last layer before the prediction becomes stochastic (paper, 4.2.4
    and 4.2.5). The mean is the host's own layer, so that a vanilla checkpoint's weights
    are its weights. The std starts at ``softplus(-std_shift)`` whatever the input:
    with the mean latent, a model with vanilla weights predicts as the vanilla one.

    Args:
        mean: layer from features to the latent's mean.
        std: layer like it; its parameters start at zero.
        std_shift: shift of ``gaussian.softplus_std``; 0 is the paper's softplus.
    """

    has_density = True
    vanilla_lacks = ('std',)

    def __init__(
        self,
        mean: nn.Module,
        std: nn.Linear | nn.Conv2d,
        std_shift: float = 5.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.mean = mean
        self.std = std
        check_number('std_shift', std_shift)
        self.std_shift = std_shift
        self.latent_dim = std.weight.shape[0]
        self._zero_std()

    def init_weights(self) -> None:
        """Initialise as configured, then the std, which that may reset."""
        super().init_weights()
        self._zero_std()

    def _zero_std(self) -> None:
        for parameter in self.std.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, num_samples: int, blocks: int = 1) -> Latent:
        """Features ``(N, C, ...)`` to z ``(L_z, N, K, ...)``, float32 also in autocast.

        Args:
            x: what both layers take.
            num_samples: draws; 0 is the mean latent, without its density: what costs
                as much as the host's layer.
            blocks: samples of the attention in ``x``; see ``gaussian.sample_blocks``.
        """
        mean = self.mean(x)
        if num_samples == 0:
            return Latent(mean.unsqueeze(0))
        std = gaussian.softplus_std(self.std(x), self.std_shift)
        mean = mean.to(std.dtype)
        z = gaussian.sample_blocks(mean, std, num_samples, blocks)
        return Latent(z, mean, std)


@MODELS.register_module()
class NoiseEncoder(LatentEncoder):
    """``z = Enc(x_noisy, a)``: the draw came with the features (Fig. 5b and 5c).

    The noise itself is ``AIBAttention(noise=…)``, which also counts L_z; here every
    row of the input gives one z, whose density is not known.
    """

    has_density = False
    parameters_per_dim = 1

    def forward(
        self,
        x: Tensor,
        num_samples: int,
        blocks: int = 1,
        images: Tensor | None = None,
    ) -> Latent:
        z = gaussian.at_least_float32(self._encode(x))
        return Latent(z.unsqueeze(0), images=images)


@MODELS.register_module()
class LatentDecoder(BaseModule):
    """``q(y|z)``: FC(K, K), ReLU, FC(K, C) for VGG; ReLU, FC(K, C) for WRN (Table 1).

    Args:
        num_classes: C.
        latent_dim: K.
        hidden: whether there is the first FC layer.
    """

    def __init__(
        self,
        num_classes: int,
        latent_dim: int,
        hidden: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        first: list[nn.Module] = [nn.Linear(latent_dim, latent_dim)] if hidden else []
        last = nn.Linear(latent_dim, num_classes)
        self.layers = nn.Sequential(*first, nn.ReLU(), last)

    def forward(self, z: Tensor) -> Tensor:
        """``(..., K)`` to logits ``(..., num_classes)``."""
        return self.layers(z.to(next(self.parameters()).dtype))
