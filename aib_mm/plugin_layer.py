"""The attention as a layer inside a host's backbone."""

import math
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from aib_mm.attention import AIBAttention

#: torch's own for a conv. That of a ResNet (Kaiming, normal, fan-out) gives a conv with
#: one output channel weights so large that every score would start at 0 or 1.
_INIT = dict(
    type='Kaiming',
    layer='Conv2d',
    a=math.sqrt(5),
    mode='fan_in',
    nonlinearity='leaky_relu',
    distribution='uniform',
)


@MODELS.register_module()
class AIBLayer(BaseModule):
    """``AIBAttention`` as a plugin of a backbone: a map in, a map out.

    In a config of mmdet or mmseg, behind the last conv of every block of two stages::

        backbone=dict(
            plugins=[
                dict(
                    cfg=dict(type='AIBLayer', modulation='residual'),
                    stages=(False, False, True, True),
                    position='after_conv3',
                )
            ]
        )

    What follows sees the features under the one sample of the attention or, with
    several, under the mean of the sampled maps. Each layer has its own branch and its
    own anchors. Before weights of a model without attention, start with a small
    ``initial_score``: the default scales the features of every block by 1.5.

    With a ``quantizer``, ``dict(type='AIBLossHook')`` in ``custom_hooks`` takes the
    quantisation losses, summed over the layers. It refuses the backbone's
    ``with_cp=True``, which computes the layers anew in the backward pass, when the
    losses are added up; without the hook a quantiser then stops that pass, and
    ``'replace'`` counts every batch twice in its statistics.

    In a frozen stage the layer is in test mode.

    Args:
        in_channels: C of the features; the host gives it.
        init_cfg: initialisation of the convs; by default torch's, not the backbone's.
        attention: arguments of ``AIBAttention``.

    Raises:
        ValueError: a modulation that changes the number of channels; whatever
            ``AIBAttention`` raises.
    """

    _abbr_ = 'aib'
    vanilla_lacks = ('attention',)

    def __init__(
        self,
        in_channels: int,
        init_cfg: dict | list[dict] | None = None,
        **attention: Any,
    ) -> None:
        super().__init__(init_cfg or _INIT)
        self.attention = AIBAttention([in_channels], **attention)
        (modulation,) = self.attention.modulations
        if modulation.out_channels != in_channels:
            raise ValueError(
                f'{attention} makes {modulation.out_channels} channels of '
                f'{in_channels}, and the layer behind expects {in_channels}: use '
                "modulation='scale', 'residual', 'bias' or 'replace'"
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, H, W)``."""
        # Hosts add to it in place, which fails on a view under with_cp.
        return self.attention((x,))[0].clone()
