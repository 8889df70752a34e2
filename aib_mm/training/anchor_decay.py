"""Optimizers without weight decay on anchors, whatever the config says.

An anchor that no position picks has no gradient: weight decay alone would pull it to 0,
where it is the anchor of other scores.
"""

import inspect
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS, Registry
from torch import nn

from aib_mm.quantizer import VQAnchorQuantizer

_DEFAULT = DefaultOptimWrapperConstructor.__name__
_ALIKE: dict[str, dict] = {'custom_keys': {}}
"""``paramwise_cfg`` in the place of none: all weights alike, but for the anchors."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name=_DEFAULT, force=True)
class AnchorSparing(DefaultOptimWrapperConstructor):
    """mmengine's default constructor, but the anchors get no weight decay.

    It is registered under the default's name, and a base to put before another
    constructor. The groups of all other weights are that constructor's own, and so is
    everything in a model without anchors. What a config says of the anchors' learning
    rate holds; a ``decay_mult`` for them does not.
    """

    paramwise_cfg: dict[str, Any]

    def __call__(self, model: nn.Module) -> Any:
        """An optimizer wrapper, as mmengine's.

        Without a ``paramwise_cfg`` the optimizer gets two groups, with weight decay
        and without; one where the model has no anchors or the optimizer no decay.
        """
        if not self.paramwise_cfg and self._decays() and _anchors(model):
            self.paramwise_cfg = _ALIKE
        return super().__call__(model)

    def add_params(
        self, params: list[dict], module: nn.Module, *args: Any, **kwargs: Any
    ) -> None:
        """Append the groups of a module and, in most constructors, of its children."""
        if self.paramwise_cfg is _ALIKE:
            anchors = _anchors(module)
            spared = {id(anchor) for anchor in anchors}
            others = [p for p in module.parameters() if id(p) not in spared]
            params += [dict(params=others), dict(params=anchors, weight_decay=0.0)]
            return
        before = len(params)
        super().add_params(params, module, *args, **kwargs)
        if isinstance(module, VQAnchorQuantizer):
            for group in params[before:]:
                group['weight_decay'] = 0.0

    def _decays(self) -> bool:
        """Whether the optimizer may have weight decay."""
        if self.base_wd is not None:
            return self.base_wd != 0
        kind = self.optimizer_cfg['type']
        if isinstance(kind, str):
            with OPTIMIZERS.switch_scope_and_registry(None) as registry:
                kind = registry.get(kind)
        arguments = inspect.signature(kind).parameters
        if 'weight_decay' in arguments:
            return bool(arguments['weight_decay'].default)
        return any(each.kind is each.VAR_KEYWORD for each in arguments.values())


def spare_anchors(
    registry: Registry, constructor: type[DefaultOptimWrapperConstructor]
) -> None:
    """Register a subclass that spares anchors under the name of a constructor.

    Args:
        registry: registry in which the constructor is registered.
        constructor: the class to be replaced.
    """
    name = constructor.__name__
    sparing = type(name, (AnchorSparing, constructor), {})
    registry.register_module(name=name, force=True, module=sparing)


def _anchors(model: nn.Module) -> list[nn.Parameter]:
    """The anchors of all quantisers in a model, each once."""
    quantizers = [m for m in model.modules() if isinstance(m, VQAnchorQuantizer)]
    anchors = (p for each in quantizers for p in each.parameters(recurse=False))
    return list(dict.fromkeys(anchors))
