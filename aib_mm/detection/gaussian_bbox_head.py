"""The box head whose last shared layer gives a distribution (paper, 4.2.5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.registry import MODELS as HOST_MODELS
from mmengine.model import ModuleDict
from torch import Tensor, nn

from aib_mm.encoders import GaussianLayer, Latent, join_latents
from aib_mm.errors import check_count
from aib_mm.registry import MODELS, build_part

Latents = dict[str, Latent]


@HOST_MODELS.register_module()
@MODELS.register_module()
class GaussianBBoxHead(Shared2FCBBoxHead):
    """``Shared2FCBBoxHead`` with one latent for the classes and one for the boxes.

    The last shared FC layer predicts mean and std of both latents, each as wide as that
    layer was. What follows is the host's: ReLU, and one FC layer each for class scores
    and box deltas. Weights of a vanilla head load: its last shared layer becomes both
    means.

    ``GaussianRoIHead`` and ``GaussianCascadeRoIHead`` draw the samples. Elsewhere this
    head predicts from the mean latents, and cannot be trained, since nobody would ask
    for its losses.

    Args:
        train_samples: L_z in training.
        test_samples: L_z at test; 0 takes the mean latents.
        std_shift: shift of ``gaussian.softplus_std``, see ``GaussianLayer``.
        aib_loss: config of ``AIBLoss``; one is built for each latent.
        args, kwargs: arguments of ``Shared2FCBBoxHead``.

    Raises:
        ValueError: an impossible count, or a discriminator of another width.
    """

    shared_fcs: Any  # a ModuleList of Linear
    vanilla_lacks = ('aib_loss',)

    def __init__(
        self,
        *args: Any,
        train_samples: int = 1,
        test_samples: int = 1,
        std_shift: float = 5.0,
        aib_loss: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_count('train_samples', train_samples, 1)
        check_count('test_samples', test_samples, 0)
        self.train_samples = train_samples
        self.test_samples = test_samples
        self.shared_fcs, last = self.shared_fcs[:-1], self.shared_fcs[-1]
        wanted = dict(cls=self.with_cls, reg=self.with_reg)
        names = [name for name, is_wanted in wanted.items() if is_wanted]
        self.latents = ModuleDict()
        self.aib_loss = ModuleDict()
        for name in names:
            self.latents[name] = _gaussian_like(last, std_shift, kwargs.get('init_cfg'))
            self.aib_loss[name] = build_part(aib_loss or dict(type='AIBLoss'))
            self.aib_loss[name].check_encoder(self.latents[name])

    @property
    def num_samples(self) -> int:
        """L_z in the head's present mode."""
        return self.train_samples if self.training else self.test_samples

    def encode(self, bbox_feats: Tensor, num_samples: int, blocks: int = 1) -> Latents:
        """RoI features ``(n, C, h, w)`` to ``cls`` and ``reg``, each ``(L_z, n, K)``.

        Args:
            bbox_feats: what the RoI extractor gives.
            num_samples: draws; 0 is the mean.
            blocks: samples of the attention in ``bbox_feats``. Both latents of one are
                drawn before those of the next, so that the draws do not depend on how
                many are encoded together.
        """
        x = self.avg_pool(bbox_feats) if self.with_avg_pool else bbox_feats
        x = x.flatten(1)
        for fc in self.shared_fcs:
            x = self.relu(fc(x))
        found = [
            {name: layer(block, num_samples) for name, layer in self.latents.items()}
            for block in x.unflatten(0, (blocks, -1))
        ]
        return {
            name: join_latents([latents[name] for latents in found])
            for name in self.latents
        }

    def decode(self, latents: Latents) -> tuple[Tensor | None, Tensor | None]:
        """Class logits ``(L_z, n, num_classes + 1)`` and deltas ``(L_z, n, 4·…)``."""
        scores = _predict(self.fc_cls, latents['cls']) if self.with_cls else None
        deltas = _predict(self.fc_reg, latents['reg']) if self.with_reg else None
        return scores, deltas

    def check_neck(self, feats: Sequence[Tensor]) -> None:
        """Refuse a price on the map that nobody would pay; ``AIBLoss``."""
        for aib_loss in self.aib_loss.values():
            aib_loss.check_neck(feats)

    def bottleneck_loss(
        self, latents: Latents, neck_losses: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What the bottleneck adds (paper, Eq. 18), with one divergence per latent.

        Args:
            latents: latents of all attention samples.
            neck_losses: what ``AttendedFeatures.take_losses`` gave; they go with the
                first latent's.

        Returns:
            Terms of ``AIBLoss``: the latents' losses are added, their monitors have the
            latent's name (``kl_nats_cls``); the map's have none.
        """
        losses: dict[str, Tensor] = {}
        for name, latent in latents.items():
            for key, value in self.aib_loss[name](latent, neck_losses).items():
                if 'loss' in key:
                    losses[key] = losses[key] + value if key in losses else value
                elif key == 'map_nats':
                    losses[key] = value
                else:
                    losses[f'{key}_{name}'] = value
            neck_losses = None
        return losses

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Logits and deltas from the mean latents, as the host's head gives them.

        Raises:
            RuntimeError: in training, where the latents' losses would be lost.
        """
        if self.training:
            raise RuntimeError(
                f'{type(self).__name__} is trained by a RoI head that takes its '
                "losses: use roi_head=dict(type='GaussianRoIHead') or "
                "dict(type='GaussianCascadeRoIHead')"
            )
        scores, deltas = self.decode(self.encode(x, 0))
        return (
            None if scores is None else scores[0],
            None if deltas is None else deltas[0],
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take a vanilla head's last shared layer as the mean of each latent."""
        last = f'{prefix}shared_fcs.{len(self.shared_fcs)}.'
        for key in [key for key in state_dict if key.startswith(last)]:
            value = state_dict.pop(key)
            for name in self.latents:
                mean = f'{prefix}latents.{name}.mean.{key.removeprefix(last)}'
                state_dict[mean] = value
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _gaussian_like(
    fc: nn.Linear, std_shift: float, heads_own: dict | list[dict] | None
) -> GaussianLayer:
    """Layer of a latent; ``heads_own`` is the ``init_cfg`` that the head was given."""
    mean, std = (nn.Linear(fc.in_features, fc.out_features) for _ in range(2))
    # As the host initialises its shared layers, unless it is told how.
    xavier = dict(type='Xavier', layer='Linear', distribution='uniform')
    init_cfg = None if heads_own else xavier
    return GaussianLayer(mean, std, std_shift=std_shift, init_cfg=init_cfg)


def _predict(predictor: nn.Module, latent: Latent) -> Tensor:
    z = F.relu(latent.samples)
    z = z.to(next(predictor.parameters()).dtype)
    return predictor(z.flatten(0, 1)).unflatten(0, z.shape[:2])
