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
#: What a head writes of the samples that its own pass drew: of no other prediction.
OF_ONE_PASS = (ENTROPY, INFORMATION, 'kl_nats', 'samples_drawn')
#: What the sum of a softmax in half precision differs from 1 by, at most.
SUM_ROUNDING = 0.01


def entropy(probabilities: Tensor) -> Tensor:
    """``H = -sum_c p_c ln p_c`` in nats, over the last dimension; 0 ln 0 is 0.

    For classes that exclude each other, whose probabilities sum to 1.
    """
    return torch.special.entr(probabilities).sum(dim=-1)


def binary_entropy(probabilities: Tensor) -> Tensor:
    """``H = -p ln p - (1 - p) ln(1 - p)`` in nats, of each element; at most ln 2.

    For what is or is not there: the classes of a multi-label classifier (each its
    own, so that their entropies add up), the one class of a segmentor, a box.
    """
    return torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)


def exclude_each_other(scores: Tensor) -> bool:
    """Whether scores ``(C,)`` sum to 1, up to rounding, as those of one class do.

    Scores that are no numbers tell nothing, and count as such.
    """
    return not abs(scores.double().sum().item() - 1) > SUM_ROUNDING


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
