"""The noise of a Monte Carlo run, recorded and given again sample by sample.

The fixture ``noise`` of conftest puts a ``Noise`` in the place of ``gaussian.sample``.
After a run with several samples, ``noise.runs(L_a, L_z)`` is the noise of the runs with
one sample each; ``noise.replay = iter(run)`` makes the next pass draw it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


class Noise:
    """Records the noise of ``gaussian.sample``, and replays a part of it."""

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []
        self.replay: Iterator[Tensor] | None = None

    def sample(self, mean: Tensor, std: Tensor, num_samples: int) -> Tensor:
        if num_samples == 0:
            return mean.unsqueeze(0)
        if self.replay is None:
            noise = torch.randn(num_samples, *mean.shape)
            self.drawn.append(noise)
        else:
            noise = next(self.replay)
        return mean + std * noise

    def runs(self, num_a: int, num_z: int) -> list[list[Tensor]]:
        """What was drawn, for each single-sample run in the order of the samples."""
        maps = [drawn for drawn in self.drawn if _is_maps(drawn)]
        latents = [drawn for drawn in self.drawn if not _is_maps(drawn)]
        each = len(latents) // num_a  # drawn for one attention sample after the other
        return [
            [drawn[a : a + 1] for drawn in maps]
            + [drawn[z : z + 1] for drawn in latents[a * each : (a + 1) * each]]
            for z in range(num_z)
            for a in range(num_a)
        ]


def _is_maps(drawn: Tensor) -> bool:
    """Maps are ``(L_a, B, 1, h, w)``, a latent ``(L_z, n, K, ...)``."""
    return drawn.dim() == 5 and drawn.shape[2] == 1
