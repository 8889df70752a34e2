"""The terms that the bottleneck adds to a task's loss (paper, 3.4, Eq. 18)."""

import math
from collections.abc import Mapping

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from aib_mm import gaussian
from aib_mm.encoders import GaussianLayer, Latent, LatentEncoder
from aib_mm.errors import check_weight, choose
from aib_mm.registry import build_part

UNITS = {'nats': 1.0, 'bits': 1.0 / math.log(2.0)}
KL_STDS = ('sampling', 'exponential')


@MODELS.register_module()
class GaussianKL(BaseModule):
    """``KL[p(z|x, a) ‖ N(0, I)]`` in closed form (paper, Eq. 19).

    The defaults are the paper's. The authors' released code differs in three ways,
    each an argument; ``docs/method.md`` has the table.

    Args:
        reduction: ``'mean'`` over the K latent dimensions; ``'sum'`` (released).
        units: ``'nats'``, or ``'bits'`` (released).
        kl_std: the std inside the divergence: ``'sampling'``, the one z is drawn with;
            ``'exponential'``, its exponential (released), which is least at std 0 and
            so pulls the noise to zero instead of towards the prior.
    """

    needs_density = True

    def __init__(
        self, reduction: str = 'mean', units: str = 'nats', kl_std: str = 'sampling'
    ) -> None:
        super().__init__()
        choose('reduction', reduction, gaussian.REDUCTIONS)
        choose('units', units, UNITS)
        choose('kl_std', kl_std, KL_STDS)
        self.reduction = reduction
        self.units = units
        self.kl_std = kl_std

    def forward(self, latent: Latent) -> dict[str, Tensor]:
        """Unweighted ``loss_kl``, a scalar averaged over batch, samples, positions."""
        assert latent.mean is not None and latent.std is not None  # check_encoder
        mean, std = latent.mean.float(), latent.std.float()
        if self.kl_std == 'exponential':
            std = std.exp()
        kl = gaussian.kl_to_standard_normal(mean, std, self.reduction)
        return {'loss_kl': kl * UNITS[self.units]}


@MODELS.register_module()
class AIBLoss(BaseModule):
    """``beta · KL + vq_weight · L_vq + commit_weight · L_cmt`` (paper, Eq. 18).

    Eq. 12 and 18 are printed with one minus in front of every term, which would
    maximise these. Eq. 10, from which they come, minimises them, as this class does.

    Args:
        beta: weight of the divergence, the price of information.
        vq_weight: of Eq. 16, which moves the anchors to the scores.
        commit_weight: of Eq. 17, which moves the scores to the anchors.
        kl: config of ``GaussianKL`` or ``AdversarialKL``.

    Raises:
        ValueError: a negative or non-finite weight.
    """

    def __init__(
        self,
        beta: float = 0.01,
        vq_weight: float = 0.4,
        commit_weight: float = 0.1,
        kl: dict | None = None,
    ) -> None:
        super().__init__()
        for name, weight in (
            ('beta', beta),
            ('vq_weight', vq_weight),
            ('commit_weight', commit_weight),
        ):
            check_weight(name, weight)
        self.beta = beta
        self.vq_weight = vq_weight
        self.commit_weight = commit_weight
        self.kl = build_part(kl or dict(type='GaussianKL'))

    def check_encoder(self, encoder: LatentEncoder | GaussianLayer) -> None:
        """Refuse an encoder whose divergence this loss cannot evaluate (3.3.2).

        Raises:
            ValueError: a closed form for a latent without a density, or a discriminator
                of another width than the latent.
        """
        if self.kl.needs_density and not encoder.has_density:
            raise ValueError(
                f'{type(self.kl).__name__} needs the density of z, which '
                f'{type(encoder).__name__} does not have: use '
                f"kl=dict(type='AdversarialKL', latent_dim={encoder.latent_dim})"
            )
        width = getattr(self.kl, 'latent_dim', encoder.latent_dim)
        if width != encoder.latent_dim:
            raise ValueError(
                f'{type(self.kl).__name__}(latent_dim={width}) cannot judge latents of '
                f'latent_dim={encoder.latent_dim}: make them equal'
            )

    def forward(
        self, latent: Latent, quantization: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Weighted terms, and monitors.

        Args:
            latent: of all attention samples, so that the mean over them is Eq. 12's.
            quantization: ``AttendedFeatures.losses``; empty without a quantiser.

        Returns:
            ``loss_kl``; with a quantiser ``loss_vq`` and ``loss_cmt``; what the ``kl``
            adds (``loss_disc``). Detached monitors, whose names do not contain "loss":
            ``kl_nats``, the divergence of the whole latent (sum over K) where its
            density is known: an upper bound on I(Z; X, A), Eq. 9.
        """
        losses = self.kl(latent)
        losses['loss_kl'] = self.beta * losses['loss_kl']
        if quantization:
            losses['loss_vq'] = self.vq_weight * quantization['vq_loss']
            losses['loss_cmt'] = self.commit_weight * quantization['commit_loss']
        if latent.mean is not None and latent.std is not None:
            losses['kl_nats'] = gaussian.kl_to_standard_normal(
                latent.mean.detach().float(), latent.std.detach().float(), 'sum'
            )
        return losses
