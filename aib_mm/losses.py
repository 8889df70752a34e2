"""The terms that the bottleneck adds to a task's loss (paper, 3.4, Eq. 18)."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from aib_mm import gaussian
from aib_mm.encoders import GaussianLayer, Latent, LatentEncoder
from aib_mm.errors import check_weight, choose
from aib_mm.features import AttendedFeatures
from aib_mm.registry import build_part

UNITS = {'nats': 1.0, 'bits': 1.0 / math.log(2.0)}
_SAID = 'aib_mm: price_end is late'  # of the Runner's message hub
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
        mean, std = map(gaussian.at_least_float32, (latent.mean, latent.std))
        if self.kl_std == 'exponential':
            std = std.exp()
        kl = gaussian.kl_to_standard_normal(mean, std, self.reduction)
        return {'loss_kl': kl * UNITS[self.units]}


class Price(NamedTuple):
    """What a head says of the map's price; see ``NeckLoss``."""

    attention_price: float
    price_begin: float
    price_end: float


@dataclass(frozen=True)
class NeckLoss:
    """``vq_weight · L_vq + commit_weight · L_cmt + price · map_nats``.

    What the neck adds to a task's loss (paper, Eq. 18); the price on the map is ours.

    Attributes:
        vq_weight: weight of Eq. 16, which moves the anchors to the scores.
        commit_weight: weight of Eq. 17, which moves the scores to the anchors.
        attention_price: price of one nat that the map lets through, per position.
        price_begin: iteration of the Runner at which the price begins to rise from 0;
            a float in [0, 1] is a share of all its iterations.
        price_end: iteration, or share, from which it is whole; the rise is linear.

    Raises:
        ValueError: a weight that is negative or not finite, iterations in disorder.
    """

    vq_weight: float = 0.4
    commit_weight: float = 0.1
    attention_price: float = 0.0
    price_begin: float = 0
    price_end: float = 0

    def __post_init__(self) -> None:
        for name in ('vq_weight', 'commit_weight', 'attention_price'):
            check_weight(name, getattr(self, name))
        moments = dict(price_begin=self.price_begin, price_end=self.price_end)
        for name, moment in moments.items():
            is_share = isinstance(moment, float) and 0 <= moment <= 1
            is_count = isinstance(moment, int) and not isinstance(moment, bool)
            if not is_share and not (is_count and moment >= 0):
                raise ValueError(
                    f'{name} must be an iteration, an integer >= 0, or a share of all, '
                    f'a float in [0, 1], got {moment!r}'
                )
        if (
            len({isinstance(moment, float) for moment in moments.values() if moment})
            > 1
        ):
            raise ValueError(
                f'price_begin={self.price_begin} and price_end={self.price_end} must '
                'both be iterations, integers, or both shares of them, floats'
            )
        if self.price_end < self.price_begin:
            raise ValueError(
                f'price_end={self.price_end} is before price_begin={self.price_begin}: '
                'the price rises from the one to the other'
            )

    def price(self) -> float:
        """The price in the present iteration; whole where no Runner counts any.

        The count is that of the Runner that this process built last, a finished one
        too, so that a resumed training goes on where it was.
        """
        hub = MessageHub.get_current_instance()
        step, count = hub.get_info('iter'), hub.get_info('max_iters')
        begin, end = (
            moment * (count or 0) if isinstance(moment, float) else moment
            for moment in (self.price_begin, self.price_end)
        )
        late = self.attention_price > 0 and 0 < (count or 0) <= end
        if late and not hub.get_info(_SAID):
            hub.update_info(_SAID, True, resumed=False)
            print_log(
                f'attention_price={self.attention_price} is never whole: the training '
                f'has {count} iterations, and price_end={self.price_end}; set '
                'price_begin=0.25 and price_end=0.5, say, shares of them',
                logger='current',
                level=logging.WARNING,
            )
        if step is None or step >= end:
            return self.attention_price
        if step <= begin:
            return 0.0
        return self.attention_price * (step - begin) / (end - begin)

    def check_neck(self, feats: Sequence[Tensor]) -> None:
        """Refuse a price behind a neck that reports nothing to be priced.

        Raises:
            ValueError: names the remedy.
        """
        if self.attention_price == 0:
            return
        if isinstance(feats, AttendedFeatures) and not feats.attention:
            raise ValueError(
                f'attention_price={self.attention_price}, but a head between this one '
                'and the neck (as MultiTaskHead) has rebuilt the features without '
                'their attention: leave attention_price out here, and give it to '
                "dict(type='AIBLossHook') in custom_hooks"
            )
        if not isinstance(feats, AttendedFeatures) or 'map_nats' not in feats.losses:
            raise ValueError(
                f'attention_price={self.attention_price}, but the neck reports no '
                "map_nats: set modulation='replace' or prior_std=0.2 in neck=dict("
                "type='AIBAttention'), or leave attention_price out"
            )

    def check_taken(self, found: Sequence[Mapping[str, Tensor]]) -> None:
        """Refuse a price on maps whose losses other heads have taken, all of them.

        Raises:
            ValueError: names the remedy.
        """
        if not found or any('map_nats' in taken for taken in found):
            return
        if self.attention_price > 0:
            raise ValueError(
                f'attention_price={self.attention_price} of AIBLossHook would do '
                'nothing, since a head of aib_mm takes the losses of the neck: give '
                'the price to its aib_loss'
            )

    def __call__(self, taken: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms of what ``AttendedFeatures.take_losses`` gave.

        Returns:
            ``loss_vq`` and ``loss_cmt`` of a quantiser, ``loss_price`` of a price, and
            the detached monitor ``map_nats`` where the neck reports it.
        """
        losses: dict[str, Tensor] = {}
        if 'vq_loss' in taken:
            losses['loss_vq'] = self.vq_weight * taken['vq_loss']
            losses['loss_cmt'] = self.commit_weight * taken['commit_loss']
        if 'map_nats' in taken:
            if self.attention_price > 0:
                losses['loss_price'] = self.price() * taken['map_nats']
            losses['map_nats'] = taken['map_nats'].detach()
        return losses


@MODELS.register_module()
class AIBLoss(BaseModule):
    """``beta · KL + vq_weight · L_vq + commit_weight · L_cmt`` (paper, Eq. 18).

    Eq. 12 and 18 are printed with one minus in front of every term, which would
    maximise these. Eq. 10, from which they come, minimises them, as this class does.

    Args:
        beta: weight of the divergence, the price of information in the latent.
        vq_weight: weight of Eq. 16; see ``NeckLoss``, also for the rest but ``kl``.
        commit_weight: weight of Eq. 17.
        kl: config of ``GaussianKL`` or ``AdversarialKL``.
        attention_price: price of a nat in the map; ours, and off by default.
        price_begin: iteration of the Runner, or as a float in [0, 1] share of all its
            iterations, at which the price begins to rise from 0; without a Runner the
            price is whole at once.
        price_end: iteration or share from which the price is whole.

    Raises:
        ValueError: a negative or non-finite weight.
    """

    def __init__(
        self,
        beta: float = 0.01,
        vq_weight: float = 0.4,
        commit_weight: float = 0.1,
        kl: dict | None = None,
        attention_price: float = 0.0,
        price_begin: float = 0,
        price_end: float = 0,
    ) -> None:
        super().__init__()
        check_weight('beta', beta)
        self.beta = beta
        self.neck_loss = NeckLoss(
            vq_weight, commit_weight, attention_price, price_begin, price_end
        )
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

    def check_neck(self, feats: Sequence[Tensor]) -> None:
        """Refuse a price on the map that nobody would pay: see ``NeckLoss``.

        The first of several heads takes the neck's losses; the others may have its
        price, which is paid once.

        Raises:
            ValueError: names the remedy.
        """
        self.neck_loss.check_neck(feats)
        if not isinstance(feats, AttendedFeatures):
            return
        mine = self.neck_loss
        price = Price(mine.attention_price, mine.price_begin, mine.price_end)
        paid = feats.settle_price(price)
        if price.attention_price > 0 and price != paid:
            raise ValueError(
                f'{price} is never paid: another head comes first, which takes the '
                f'losses of the neck at {paid}; give that head the price'
            )

    def forward(
        self, latent: Latent, neck_losses: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Weighted terms, and monitors.

        Args:
            latent: latent of all attention samples: the mean over them is Eq. 12's.
            neck_losses: what ``AttendedFeatures.take_losses`` gave.

        Returns:
            ``loss_kl``; what ``NeckLoss`` gives; what the ``kl`` adds (``loss_disc``).
            Detached monitors, whose names do not contain "loss": ``kl_nats``, the
            divergence of the whole latent (sum over K) where its density is known: an
            upper bound on I(Z; X, A), Eq. 9.
        """
        losses = self.kl(latent)
        losses['loss_kl'] = self.beta * losses['loss_kl']
        losses.update(self.neck_loss(neck_losses or {}))
        if latent.mean is not None and latent.std is not None:
            mean, std = map(gaussian.at_least_float32, (latent.mean, latent.std))
            nats = gaussian.kl_to_standard_normal(mean.detach(), std.detach(), 'sum')
            losses['kl_nats'] = nats
        return losses
