"""The divergence learnt by a discriminator, for any encoder (paper, Eq. 20, 4.1.6)."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.func import functional_call

from aib_mm.encoders import Latent
from aib_mm.errors import check_count
from aib_mm.gaussian import mean_or_zero


class Discriminator(nn.Sequential):
    """FC(K, K), LeakyReLU, FC(K, K), LeakyReLU, FC(K, 1); dropout at each FC's input.

    Gives the *logit* of D(z); the paper's final sigmoid is inside the loss, where its
    logarithm is stable.
    """

    def __init__(self, latent_dim: int, dropout: float) -> None:
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(latent_dim, latent_dim),
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
            nn.Linear(latent_dim, latent_dim),
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
            nn.Linear(latent_dim, 1),
        )


@MODELS.register_module()
class AdversarialKL(BaseModule):
    r"""A min-max estimate of how far z is from N(0, I) (paper, Eq. 20).

    .. math:: E_{z \sim r}[\log D(z)] + E_x[\log(1 - D(Enc(x, a)))]

    D maximises it, the encoder minimises the second term. Both happen in one backward
    pass: D learns from detached latents, and the encoder's term runs through D with D's
    parameters held constant. No second optimizer is needed; D's learning rate is an
    entry of ``paramwise_cfg``.

    Args:
        latent_dim: K.
        dropout: probability of dropping an input of an FC layer of D.
        saturating: the encoder minimises ``log(1 - D)`` as printed; False minimises
            ``-log D``, whose gradient does not vanish while D wins.

    Raises:
        ValueError: a width below 1 or a dropout outside [0, 1).
    """

    needs_density = False

    def __init__(
        self, latent_dim: int, dropout: float = 0.2, saturating: bool = True
    ) -> None:
        super().__init__()
        check_count('latent_dim', latent_dim, 1)
        if not 0 <= dropout < 1:
            raise ValueError(f'dropout must be in [0, 1), got {dropout!r}')
        self.latent_dim = latent_dim
        self.saturating = saturating
        self.discriminator = Discriminator(latent_dim, dropout)

    def forward(self, latent: Latent) -> dict[str, Tensor]:
        """Unweighted ``loss_kl`` (encoder's) and ``loss_disc`` (discriminator's).

        Also the monitors ``disc_prior`` and ``disc_latent``: the mean of D on draws
        from the prior and on latents; both approach 0.5 as D loses.
        """
        with torch.autocast(latent.samples.device.type, enabled=False):
            z = latent.samples.movedim(2, -1).reshape(-1, self.latent_dim)
            z = z.to(next(self.discriminator.parameters()).dtype)
            on_prior = self.discriminator(torch.randn_like(z))
            on_latent = self.discriminator(z.detach())
            frozen = {
                name: parameter.detach()
                for name, parameter in self.discriminator.named_parameters()
            }
            through = functional_call(self.discriminator, frozen, (z,))
            # log D = logsigmoid(logit) and log(1 - D) = logsigmoid(-logit).
            encoder_term = (
                F.logsigmoid(-through) if self.saturating else -F.logsigmoid(through)
            )
            discriminator_term = -F.logsigmoid(on_prior) - F.logsigmoid(-on_latent)
        return {
            'loss_kl': mean_or_zero(encoder_term),
            'loss_disc': mean_or_zero(discriminator_term),
            'disc_prior': mean_or_zero(on_prior.detach().sigmoid()),
            'disc_latent': mean_or_zero(on_latent.detach().sigmoid()),
        }
