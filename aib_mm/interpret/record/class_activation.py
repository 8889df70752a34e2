"""Class activation maps of any model, by ``pytorch-grad-cam``."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aib_mm.errors import InferenceError, choose
from aib_mm.features import AttentionModule
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
        layer: layer of the model that returns a map, see ``as_map``; the class
            activation map lies over it.
        inputs: images as the model takes them.
        method: name of a class of the library, one of ``METHODS``.

    Returns:
        ``(B, K)`` and ``(B, h, w)``, each map from 0 to 1 (all 0 where no position
        speaks for the class), on the inputs' device.

    Raises:
        ValueError: an unknown method.
        InferenceError: a layer that returns no map of each image, that runs several
            times, or that the logits do not depend on.
        MissingLibraryError: the library is not installed.
    """
    choose('method', method, METHODS)
    check_library()
    import pytorch_grad_cam

    class AtItsOwnSize(getattr(pytorch_grad_cam, method)):  # type: ignore[misc]
        """The map as large as the layer's, not interpolated to the image."""

        def get_target_width_height(self, input_tensor: Tensor) -> None:
            return None

        def compute_cam_per_layer(self, *args: Any) -> Any:
            found = self.activations_and_grads
            _check_runs(found.activations, len(inputs))
            if self.uses_gradients and not found.gradients:
                raise InferenceError(
                    'what is predicted does not depend on what the layer returns: '
                    'name a layer that it depends on'
                )
            return super().compute_cam_per_layer(*args)

    try:
        with (
            watch({type(layer).__name__: layer}, _require_map),
            torch.enable_grad(),
            AtItsOwnSize(model, [layer], reshape_transform=as_map) as activation,
        ):
            # Of the input too: what a frozen layer returns has a gradient only then.
            maps = activation(inputs.detach().requires_grad_(), targets=None)
            logits = activation.outputs.detach()
    finally:
        model.zero_grad(set_to_none=True)
    return logits, torch.from_numpy(maps).to(inputs.device)


def _check_runs(activations: Sequence[Tensor], count: int) -> None:
    """Raise unless the layer ran once, and gave a map of each image."""
    if len(activations) != 1:
        raise InferenceError(
            f'the layer runs {len(activations)} times for one batch, and class '
            'activation is of one run: name a layer that runs once, and predict whole '
            "images (mmseg: model.test_cfg.mode='whole')"
        )
    if len(activations[0]) != count:
        raise InferenceError(
            f'the layer returns {len(activations[0])} maps of {count} images: name one '
            'that returns a map of each image, in the backbone or the neck'
        )


def as_map(output: Any) -> Tensor | None:
    """A feature map ``(B, C, h, w)`` from what a layer returned.

    A transformer's tokens ``(B, N, C)`` are one too where they lie on a square grid,
    row by row, behind one class token or without one.

    Returns:
        None for what is neither.
    """
    if not isinstance(output, Tensor) or output.dim() not in (3, 4):
        return None
    if output.dim() == 4:
        return output
    for first in (0, 1):
        side = math.isqrt(max(output.shape[1] - first, 0))
        if side and side * side == output.shape[1] - first:
            return output[:, first:].mT.unflatten(2, (side, side))
    return None


def default_layer(
    model: nn.Module, inputs: Tensor, within: str = '', scoring: nn.Module | None = None
) -> str:
    """Name of the last layer whose map is at least 7×7 and moves the highest logit.

    The whole model counts, so that models are compared at one depth whatever their
    backbone ends with: in VGG16 it is the end of block 5, also where that stands in a
    neck or in a head. What only scores positions does not count, see
    ``AttentionModule.feature_parts``; nor does what the prediction does not depend on,
    such as the last tokens of a transformer that classifies by a token of its own. One
    forward and one backward pass are made. Its parameters' gradients are cleared,
    also after an error.

    Args:
        model: images to logits ``(B, K)``.
        inputs: images ``(B, C, H, W)`` as the model takes them.
        within: name of the part of the model that counts, instead of all of it.
        scoring: module that holds the model and makes the logits; None is itself.

    Raises:
        InferenceError: no layer has such a map.
    """
    found: dict[str, Tensor] = {}

    def note(name: str, _: Any, output: Any) -> None:
        maps = as_map(output)
        if maps is None or len(maps) != len(inputs):
            return
        if min(maps.shape[2:]) >= MIN_SIDE:
            if output.requires_grad:
                output.retain_grad()
            found.pop(name, None)  # the order of the last calls
            found[name] = output

    apart = _scoring_parts(model)
    layers = {
        name: module
        for name, module in model.named_modules()
        if name and name.startswith(within) and module not in apart
    }
    try:
        with torch.enable_grad(), watch(layers, note):
            # Frozen layers have a gradient too.
            logits = (scoring or model)(inputs.detach().requires_grad_())
            logits.amax(dim=-1).sum().backward()
    finally:
        model.zero_grad(set_to_none=True)
    moving = [name for name, output in found.items() if _moves(output)]
    if not found:
        raise InferenceError(
            f'no layer of {type(model).__name__} gives a map (B, C, h, w) of at '
            f'least {MIN_SIDE}×{MIN_SIDE} for inputs {tuple(inputs.shape)}: name a '
            'layer'
        )
    return (moving or list(found))[-1]


def _moves(output: Tensor) -> bool:
    """Whether some position of a map, not its class token alone, has a gradient."""
    grad = as_map(output.grad)
    return grad is not None and bool(grad.any())


def _require_map(name: str, inputs: Any, output: Any) -> None:
    if as_map(output) is None:
        raise InferenceError(
            f'the layer, {name}, returns {shapes_of(output)}, which is no map '
            '(B, C, h, w): name a layer that returns one'
        )


def shapes_of(output: Any) -> str:
    """What a module returned, for messages: types, and shapes of tensors."""
    if isinstance(output, list | tuple):
        inside = ', '.join(map(shapes_of, output))
        return f'{type(output).__name__} of {inside or "nothing"}'
    shape = f' {tuple(output.shape)}' if isinstance(output, Tensor) else ''
    return f'{type(output).__name__}{shape}'


def _scoring_parts(model: nn.Module) -> set[nn.Module]:
    """Modules inside attention that the features do not go through."""
    parts: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, AttentionModule):
            for name, child in module.named_children():
                if name not in module.feature_parts:
                    parts.update(child.modules())
    return parts
