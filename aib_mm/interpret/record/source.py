"""Where maps come from: a model's attention, or anything else that it looks with.

``attention``
    whatever attends: ``AIBAttention``, or the attention of another method.
``features:MODULE``
    a module's feature maps, their mean over the channels.
``gate:MODULE``
    a map of one channel that some module makes, as it is.
``gradcam``, ``gradcam:MODULE``
    Grad-CAM of what the model predicts, at a layer.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from aib_mm.attention import attention_modules
from aib_mm.features import AttentionMaps
from aib_mm.interpret.record.class_activation import (
    as_map,
    class_activation,
    default_layer,
)

FORMS = ('attention', 'features:MODULE', 'gate:MODULE', 'gradcam', 'gradcam:MODULE')

Predictions = Sequence[BaseDataElement]
Levels = tuple[AttentionMaps, ...]


class MapSource:
    """Modules of a model whose outputs hold maps: by itself, its attention."""

    def modules(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The modules to watch, by name.

        Raises:
            ValueError: the model has none.
        """
        return attention_modules(model)

    def maps(self, output: Any) -> Levels:
        """The maps in what one of these modules returned.

        Raises:
            ValueError: there is none, with the shapes that are there.
        """
        return output.attention


@dataclass(frozen=True)
class FeatureSource(MapSource):
    """The mean over the channels of a module's feature maps, or a gate.

    Attributes:
        name: the module's name in the model.
        is_gate: whether it is one channel, and taken as it is.
    """

    name: str
    is_gate: bool = False

    def modules(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The one module."""
        return {self.name: named_module(model, self.name)}

    def maps(self, output: Any) -> Levels:
        """A map of each level that the module returned."""
        outputs = output if isinstance(output, list | tuple) else (output,)
        levels = [as_map(one) for one in outputs if isinstance(one, Tensor)]
        if not levels or any(level is None for level in levels):
            raise ValueError(
                f'{self.name} returns {_shapes(output)}, which is no map (B, C, h, w): '
                'name a module that returns one'
            )
        found = []
        for level in levels:
            assert level is not None
            if self.is_gate and level.shape[1] != 1:
                raise ValueError(
                    f'{self.name} returns a map of {level.shape[1]} channels, a gate '
                    f"has one: use 'features:{self.name}'"
                )
            found.append(AttentionMaps.certain(level.float().mean(dim=1, keepdim=True)))
        return tuple(found)


@dataclass
class ClassActivationSource:
    """Grad-CAM of what a model predicts; it needs a backward pass of its own.

    Attributes:
        name: the layer's name; None takes what ``default_layer`` finds with the first
            batch: in the whole of a classifier, in the backbone of other models.
    """

    name: str | None = None

    def predict(
        self,
        model: nn.Module,
        data: Mapping[str, Any],
        score: Callable[[BaseDataElement], Tensor],
    ) -> tuple[Predictions, Levels]:
        """Predictions of a batch, and the map of their scores.

        Args:
            model: model of any host, in eval mode.
            data: what its data preprocessor gave.
            score: function from a prediction to the scalar whose gradient is taken.

        Returns:
            Predictions, detached, and one level; a map of 0 where nothing was
            predicted.

        Raises:
            ValueError: no layer of this name, or one without a map.
        """
        scores, inputs = _Scores(model, data, score), data['inputs']
        try:
            if self.name is None:
                within = 'model' if hasattr(model, 'head') else 'model.backbone'
                layer = default_layer(scores, inputs, within)
                self.name = layer.removeprefix('model.')
            maps = class_activation(scores, named_module(model, self.name), inputs)[1]
        except _NothingPredictedError:
            maps = inputs.new_zeros(len(inputs), 1, 1)
        detached = [prediction.detach() for prediction in scores.predictions]
        return detached, (AttentionMaps.certain(maps.unsqueeze(1)),)


class _NothingPredictedError(Exception):
    """No score depends on the image."""


class _Scores(nn.Module):
    """A model of any host as the library takes it: images to scores ``(B, 1)``."""

    def __init__(
        self,
        model: nn.Module,
        data: Mapping[str, Any],
        score: Callable[[BaseDataElement], Tensor],
    ) -> None:
        super().__init__()
        self.model = model
        self.data = data
        self.score = score
        self.predictions: Predictions = ()

    def forward(self, inputs: Tensor) -> Tensor:
        self.predictions = self.model(**{**self.data, 'inputs': inputs}, mode='predict')
        scores = torch.stack([self.score(one) for one in self.predictions])
        if not scores.requires_grad:
            raise _NothingPredictedError
        return scores.unsqueeze(1)


def read_source(text: str) -> MapSource | ClassActivationSource:
    """The source that a text names, one of ``FORMS``.

    Raises:
        ValueError: another form.
    """
    kind, colon, name = text.partition(':')
    if kind == 'gradcam' and bool(colon) == bool(name):
        return ClassActivationSource(name or None)
    if kind in ('features', 'gate') and name:
        return FeatureSource(name, is_gate=kind == 'gate')
    if text == 'attention':
        return MapSource()
    raise ValueError(f'source must be {", ".join(FORMS)}, got {text!r}')


def named_module(model: nn.Module, name: str) -> nn.Module:
    """A module of a model.

    Raises:
        ValueError: there is none of this name; with those that are written alike.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        near = difflib.get_close_matches(name, modules, n=5, cutoff=0.4)
        children = [child for child, _ in model.named_children()]
        raise ValueError(
            f'{type(model).__name__} has no module {name!r}; '
            f'{"written alike are" if near else "its parts are"} '
            f'{", ".join(near or children)}'
        )
    return modules[name]


def _shapes(output: Any) -> str:
    outputs = output if isinstance(output, list | tuple) else (output,)
    shapes = [
        str(tuple(one.shape)) if isinstance(one, Tensor) else type(one).__name__
        for one in outputs
    ]
    return ', '.join(shapes) or 'nothing'
