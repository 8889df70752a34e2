"""Entropies of sampled predictions, in nats: how much doubt, and of which kind.

The samples of attention and latent that a prediction averages are also an ensemble:
where they agree on the class scores but the scores are flat, the image is ambiguous;
where they disagree, the model does not know (Houlsby et al., "Bayesian active learning
for classification and preference learning", BALD).
"""

import torch
from torch import Tensor

#: Fields of a data sample, in nats.
ENTROPY = 'predictive_entropy'
INFORMATION = 'mutual_information'


def entropy(probabilities: Tensor) -> Tensor:
    """``H = -sum_c p_c ln p_c`` in nats, over the last dimension; 0 ln 0 is 0."""
    return torch.special.entr(probabilities).sum(dim=-1)


def predictive_entropy(probabilities: Tensor) -> Tensor:
    """Entropy of the mean over samples, ``(B,)`` nats, in [0, ln C].

    Args:
        probabilities: class probabilities of each sample, ``(S, B, C)``.
    """
    return entropy(probabilities.mean(dim=0))


def mutual_information(probabilities: Tensor) -> Tensor:
    """``H(mean over samples) - mean over samples of H``, ``(B,)`` nats.

    BALD: how much of the predictive entropy comes from samples that disagree. Never
    negative, at most ``ln min(S, C)``; 0 with a single sample.

    Args:
        probabilities: class probabilities of each sample, ``(S, B, C)``.
    """
    # Where all samples agree, rounding alone can make the difference negative.
    return (
        predictive_entropy(probabilities) - entropy(probabilities).mean(dim=0)
    ).clamp_min(0)
