"""A classifier as an ONNX file, which runs without PyTorch and without this package.

What is exported is ``mode='tensor'``: logits under the mean attention and of the mean
latent, in one pass without randomness. ``docs/deployment.md`` says what that leaves
out.
"""

from os import PathLike

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from aib_mm.utils.wrappers import input_channels

OPSET = 20


class _Logits(nn.Module):
    """Images ``(B, C, H, W)`` to logits ``(B, K)``."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images as the data preprocessor hands them on: normalised."""
        return self.model(images, mode='tensor')


def export_onnx(
    model: BaseModel, path: str | PathLike[str], image_size: tuple[int, int]
) -> None:
    """Write a classifier of mmpretrain to an ONNX file.

    Its input ``images`` ``(B, C, H, W)`` takes what the model's data preprocessor
    gives, so normalised images, of any batch size and with the model's channels; its
    output is ``logits`` ``(B, K)``.
    Needs the packages onnx and onnxscript.

    Args:
        model: model with any neck and head of this package or its host's; every
            part is left in the mode it was in.
        path: path of the file.
        image_size: H and W, which the file is then bound to.

    Raises:
        TypeError: the model's ``mode='tensor'`` gives something other than logits.
    """
    # A batch of one would be taken for a constant.
    shape = (2, input_channels(model), *image_size)
    images = torch.zeros(shape, device=next(model.parameters()).device)
    modes = {module: module.training for module in model.modules()}
    wrapped = _Logits(model).eval()
    try:
        with torch.no_grad():
            logits = wrapped(images)
            if not isinstance(logits, Tensor):
                raise TypeError(
                    f'{type(model).__name__} gives {type(logits).__name__} in '
                    "mode='tensor', not logits: only classifiers can be exported"
                )
            torch.onnx.export(
                wrapped,
                (images,),
                path,
                input_names=['images'],
                output_names=['logits'],
                dynamic_shapes=({0: torch.export.Dim('batch')},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        # One by one: parts may be frozen.
        for module, mode in modes.items():
            module.training = mode
