"""Noise on the features before they are modulated (paper, 3.3.2, Fig. 5b and 5c).

The additive and the propagated noise encoder get their randomness from their input:
``z = Enc(x_noisy, a)`` with the attention ``a`` computed from the clean ``x``. The
noise therefore sits in the neck, between the attention branch and the modulation; the
deterministic rest is ``aib_mm.encoders.NoiseEncoder``, in the head.
"""

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from aib_mm.errors import check_count, is_number


class FeatureNoise(BaseModule):
    """What both kinds share: how strong the noise is and how often it is drawn.

    Args:
        std: sigma of the paper, in the units of the features.
        train_samples: L_z in training.
        test_samples: L_z at test; 0 takes the noise at its mean, zero.

    Raises:
        ValueError: ``std`` not positive or not finite, or a negative count.
    """

    def __init__(
        self, std: float = 0.1, train_samples: int = 1, test_samples: int = 4
    ) -> None:
        super().__init__()
        if not is_number(std) or std <= 0:
            raise ValueError(f'noise std must be positive and finite, got {std!r}')
        check_count('train_samples', train_samples, 0)
        check_count('test_samples', test_samples, 0)
        self.std = std
        self.train_samples = train_samples
        self.test_samples = test_samples

    @property
    def num_samples(self) -> int:
        """L_z in the module's present mode."""
        return self.train_samples if self.training else self.test_samples

    def out_channels(self, in_channels: int) -> int:
        """Channels of the noisy features."""
        raise NotImplementedError

    def forward(self, x: Tensor, num_samples: int) -> Tensor:
        """``(B, C, H, W)`` to ``(max(num_samples, 1), B, out_channels(C), H, W)``."""
        raise NotImplementedError

    def _draw(self, x: Tensor, num_samples: int) -> Tensor:
        if num_samples == 0:
            return torch.zeros_like(x).unsqueeze(0)
        noise = torch.randn(num_samples, *x.shape, dtype=x.dtype, device=x.device)
        return self.std * noise

    def extra_repr(self) -> str:
        return f'std={self.std}'


@MODELS.register_module()
class AdditiveNoise(FeatureNoise):
    """``x + sigma * eps``."""

    def out_channels(self, in_channels: int) -> int:
        return in_channels

    def forward(self, x: Tensor, num_samples: int) -> Tensor:
        return x + self._draw(x, num_samples)


@MODELS.register_module()
class PropagatedNoise(FeatureNoise):
    """``cat(x, sigma * eps)``: twice the channels."""

    def out_channels(self, in_channels: int) -> int:
        return 2 * in_channels

    def forward(self, x: Tensor, num_samples: int) -> Tensor:
        noise = self._draw(x, num_samples)
        return torch.cat([x.expand_as(noise), noise], dim=-3)
