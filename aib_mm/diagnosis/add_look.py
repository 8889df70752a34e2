"""What the parts of a model hand on: seen in one training step of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

from aib_mm.diagnosis.step import NotTried, run_step


class Output(NamedTuple):
    """What a part of a model gave in a training step.

    Attributes:
        shapes: shape of each level; none where it gave other things than tensors.
        read: whether a gradient came back to each level, so that a head learns from it.
        predicted: number of levels in a prediction; None where none was made.
    """

    shapes: Sequence[tuple[int, ...]]
    read: Sequence[bool]
    predicted: int | None = None

    @property
    def are_maps(self) -> bool:
        """Whether every level is ``(B, C, H, W)``."""
        return bool(self.shapes) and all(len(shape) == 4 for shape in self.shapes)

    @property
    def channels(self) -> list[int]:
        """C of each level."""
        return [shape[1] for shape in self.shapes]

    @property
    def sizes(self) -> set[tuple[int, ...]]:
        """The different heights and widths of the levels."""
        return {shape[2:] for shape in self.shapes}


class _Watch:
    """Keeps the levels that a module gives in training, for their gradients."""

    def __init__(self, module: nn.Module, cut: bool = False) -> None:
        self.levels: Sequence[Tensor] = ()
        self.predicted: int | None = None
        self.cut = cut
        module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        levels = (output,) if isinstance(output, Tensor) else output
        is_plain = type(levels) in (tuple, list)
        if not is_plain or not all(isinstance(level, Tensor) for level in levels):
            self.levels = ()
            return None
        if not torch.is_grad_enabled():
            self.predicted = len(levels)
            return None
        if not self.cut:
            self.levels = levels
            for level in levels:
                if level.requires_grad:
                    level.retain_grad()
            return None
        # Leaves, so that frozen stages get a gradient too, and nothing goes back
        # through the backbone; cloned, for a head may change them in place.
        self.levels = [level.detach().requires_grad_() for level in levels]
        clones = [level.clone() for level in self.levels]
        return clones[0] if isinstance(output, Tensor) else type(output)(clones)

    def output(self) -> Output:
        """What was kept, without its memory."""
        shapes = [tuple(level.shape) for level in self.levels]
        read = [level.grad is not None for level in self.levels]
        return Output(shapes, read, self.predicted)


def look(cfg: Config, model: nn.Module) -> tuple[list[Output], Exception | None]:
    """Outputs of the backbone and of each neck behind it, seen in a step.

    Args:
        cfg: config of the model.
        model: model with ``backbone`` and perhaps ``neck``; gets random weights.

    Returns:
        The outputs in order, and what stopped the step, if anything did.

    Raises:
        NotTried: no batch can be made for the model.
    """
    parts = [model.get_submodule('backbone')]
    neck = dict(model.named_children()).get('neck')
    if neck is not None:
        several = isinstance(cfg.model.neck, list)
        parts += neck.children() if several else [neck]
    watches = [_Watch(part, cut=part is parts[0]) for part in parts]
    error = None
    try:
        run_step(cfg, model)
    except NotTried:
        raise
    except Exception as caught:  # of any part of a host
        error = caught
    return [watch.output() for watch in watches], error
