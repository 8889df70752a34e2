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
        return [
            [_part(drawn, a, z, num_a) for drawn in self.drawn]
            for z in range(num_z)
            for a in range(num_a)
        ]


def _part(drawn: Tensor, a: int, z: int, num_a: int) -> Tensor:
    """One sample of a map ``(L_a, B, 1, h, w)`` or a latent ``(L_z, L_a·n, K, ...)``.

    A latent's rows are sample-major over the attention.
    """
    if drawn.dim() == 5 and drawn.shape[2] == 1:
        return drawn[a : a + 1]
    rows = drawn.shape[1] // num_a
    return drawn[z : z + 1, a * rows : (a + 1) * rows]
