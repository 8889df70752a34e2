"""What a model does not say itself: what its wrapper hides, and what it takes."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where a Runner has wrapped it for several processes."""
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module)
    return inner


def input_channels(model: nn.Module) -> int:
    """Channels of the images that a model takes: those of its first convolution.

    3 where there is none to ask.
    """
    inner = unwrapped(model)
    neighbours = 1
    for module in getattr(inner, 'backbone', inner).modules():
        if type(module).__name__ == 'Focus':  # mmdet's: a conv over 2×2 pixels at once
            neighbours = 4
        if isinstance(module, nn.modules.conv._ConvNd):
            return module.in_channels // neighbours
    return 3
