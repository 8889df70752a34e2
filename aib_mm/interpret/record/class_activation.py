"""Class activation maps of a classifier without attention, by ``pytorch-grad-cam``."""

from typing import Any

import torch
from torch import Tensor, nn

from aib_mm.errors import choose
from aib_mm.interpret.record.recording import watch
from aib_mm.utils.libraries import require_library

METHODS = ('GradCAM', 'GradCAMPlusPlus', 'HiResCAM', 'LayerCAM', 'XGradCAM', 'EigenCAM')
#: Least side of the map of ``default_layer``: that of ImageNet's networks at 224×224.
MIN_SIDE = 7


def check_library() -> None:
    """Raise unless ``pytorch-grad-cam`` can be imported.

    Raises:
        MissingLibraryError: names the remedy.
    """
    require_library('pytorch_grad_cam', 'grad-cam', 'class activation maps')


def class_activation(
    model: nn.Module, layer: nn.Module, inputs: Tensor, method: str = 'GradCAM'
) -> tuple[Tensor, Tensor]:
    """Logits, and the map of the class with the highest of them.

    Args:
        model: images ``(B, C, H, W)`` to logits ``(B, K)``; in eval mode afterwards,
            its gradients cleared.
        layer: layer of the model, with a map ``(B, C', h, w)``; the map lies over it.
        inputs: images as the model takes them.
        method: name of a class of the library, one of ``METHODS``.

    Returns:
        ``(B, K)`` and ``(B, h, w)``, each map from 0 to 1 (all 0 where no position
        speaks for the class), on the inputs' device.

    Raises:
        ValueError: an unknown method.
        MissingLibraryError: the library is not installed.
    """
    choose('method', method, METHODS)
    check_library()
    import pytorch_grad_cam

    class AtItsOwnSize(getattr(pytorch_grad_cam, method)):  # type: ignore[misc]
        """The map as large as the layer's, not interpolated to the image."""

        def get_target_width_height(self, input_tensor: Tensor) -> None:
            return None

    with torch.enable_grad(), AtItsOwnSize(model, [layer]) as activation:
        maps = activation(inputs, targets=None)
        logits = activation.outputs.detach()
    model.zero_grad(set_to_none=True)
    return logits, torch.from_numpy(maps).to(inputs.device)


@torch.no_grad()
def default_layer(model: nn.Module, inputs: Tensor) -> str:
    """Name of the last layer of the backbone whose map is at least 7×7.

    The backbone is ``model.backbone`` or, where there is none, the whole model. One
    forward pass is made. The model is left as it was, also after an error.

    Raises:
        ValueError: no layer has such a map.
    """
    backbone, prefix = model, ''
    if isinstance(getattr(model, 'backbone', None), nn.Module):
        backbone, prefix = model.get_submodule('backbone'), 'backbone.'
    found: list[str] = []

    def note(name: str, inputs: Any, output: Any) -> None:
        is_map = isinstance(output, Tensor) and output.dim() == 4
        if is_map and min(output.shape[2:]) >= MIN_SIDE:
            found.append(name)

    layers = {name: module for name, module in backbone.named_modules() if name}
    with watch(layers, note):
        model(inputs)
    if not found:
        raise ValueError(
            f'no layer of {type(backbone).__name__} gives a map (B, C, h, w) of at '
            f'least {MIN_SIDE}×{MIN_SIDE} for inputs {tuple(inputs.shape)}: name a '
            'layer'
        )
    return f'{prefix}{found[-1]}'
