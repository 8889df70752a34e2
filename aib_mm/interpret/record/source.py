"""Where maps come from: a model's attention, or anything else that it looks with.

``attention``
    whatever attends: ``AIBAttention``, or the attention of another method.
``bits``
    the bits that each position of ``AIBAttention`` lets through.
``features:MODULE``
    a module's feature maps, their mean over the channels.
``gate:MODULE``
    a map of one channel that some module makes, as it is.
``gradcam``, ``gradcam:MODULE``
    Grad-CAM of what the model predicts, at a layer; so with every other method of
    ``class_activation.METHODS``, in any case.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from aib_mm.attention import attention_modules
from aib_mm.errors import InferenceError, did_you_mean
from aib_mm.features import AttentionMaps
from aib_mm.interpret.record.class_activation import (
    METHODS,
    as_map,
    check_library,
    class_activation,
    default_layer,
    shapes_of,
)
from aib_mm.interpret.record.levels import combine_bits
from aib_mm.interpret.record.recording import AttentionRecord, record_maps
from aib_mm.training.random_state import random_state, set_random_state

FORMS = (
    'attention',
    'bits',
    'features:MODULE',
    'gate:MODULE',
    'gradcam',
    'gradcam:MODULE',
)

Predictions = Sequence[BaseDataElement]
Levels = tuple[AttentionMaps, ...]
#: Model, preprocessed batch and its predictions to the scores that they stand on, with
#: a graph; None for an image for which nothing is predicted.
Scores = Callable[[nn.Module, dict[str, Any], Predictions], list[Tensor | None]]


class AttentionSource:
    """A model's attention, of whatever method."""

    def __str__(self) -> str:
        return 'attention'

    @property
    def words(self) -> str:
        """What the maps are, for people."""
        return 'attention'

    def modules(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The modules to watch, by name.

        Raises:
            ValueError: the model has none.
        """
        try:
            return attention_modules(model)
        except ValueError as error:
            raise ValueError(
                f'{error}; or look at what every model has, by '
                "source='features:MODULE' or 'gradcam' (--source on the command line)"
            ) from error

    def maps(self, output: Any) -> Levels:
        """The maps in what one of these modules returned.

        Raises:
            InferenceError: there is none, with the shapes that are there.
        """
        return output.attention

    def record(self, model: nn.Module) -> AbstractContextManager[AttentionRecord]:
        """Collect these maps, as ``record_attention`` does."""
        return record_maps(self.modules(model), self.maps)

    def look(
        self,
        model: nn.Module,
        data: dict[str, Any],
        predict: Callable[[], Predictions],
        scores: Scores,
    ) -> tuple[Predictions, AttentionRecord]:
        """Predictions of a batch, and the maps behind them.

        Args:
            model: model of any host, in eval mode.
            data: what its data preprocessor gave.
            predict: function that predicts this batch, without gradients.
            scores: function that class activation takes.
        """
        with self.record(model) as record:
            return predict(), record


class BitsSource(AttentionSource):
    """The bits that each position lets through, of all modules and levels together."""

    def __str__(self) -> str:
        return 'bits'

    @property
    def words(self) -> str:
        return 'bits let through'

    def maps(self, output: Any) -> Levels:
        """The maps of one module, of which ``merged`` takes the bits.

        Raises:
            InferenceError: the module reports none.
        """
        if any(maps.nats is None for maps in output.attention):
            raise InferenceError(
                'the attention does not say what it lets through: AIBAttention does '
                "with modulation='replace' or prior_std"
            )
        return output.attention


@dataclass(frozen=True)
class FeatureSource(AttentionSource):
    """The mean over the channels of a module's feature maps, or a gate.

    Attributes:
        module: the module's name in the model.
        is_gate: whether it is one channel, and taken as it is.
    """

    module: str
    is_gate: bool = False

    def __str__(self) -> str:
        return f'{"gate" if self.is_gate else "features"}:{self.module}'

    @property
    def words(self) -> str:
        kind = 'gate' if self.is_gate else 'mean over the channels'
        return f'{kind} of {self.module}'

    def modules(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The one module."""
        return {self.module: named_module(model, self.module)}

    def maps(self, output: Any) -> Levels:
        """A map of each level that the module returned."""
        outputs = output if isinstance(output, list | tuple) else (output,)
        found = []
        for one in outputs or (None,):
            level = as_map(one)
            if level is None:
                raise InferenceError(
                    f'{self.module} returns {shapes_of(output)}, which is no map '
                    '(B, C, h, w): name a module that returns one'
                )
            if self.is_gate and level.shape[1] != 1:
                raise InferenceError(
                    f'{self.module} returns a map of {level.shape[1]} channels, and a '
                    f"gate has one: use 'features:{self.module}'"
                )
            found.append(AttentionMaps.certain(level.float().mean(dim=1, keepdim=True)))
        return tuple(found)


@dataclass
class ClassActivationSource:
    """Class activation of what a model predicts; it needs a pass of its own.

    Attributes:
        method: one of ``class_activation.METHODS``.
        layer: the layer's name; None takes what ``default_layer`` finds with the first
            batch: in the whole of a classifier, in the backbone of other models.
    """

    method: str = 'GradCAM'
    layer: str | None = None

    def __str__(self) -> str:
        return ':'.join(filter(None, (self.method.lower(), self.layer)))

    @property
    def words(self) -> str:
        return self.method + (f' of {self.layer}' if self.layer else '')

    def modules(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The layer, where it is named.

        Raises:
            ValueError: the model has none of this name.
            MissingLibraryError: the library is not installed.
        """
        check_library()
        if self.layer is None:
            return {}
        return {self.layer: named_module(model, self.layer)}

    def look(
        self,
        model: nn.Module,
        data: dict[str, Any],
        predict: Callable[[], Predictions],
        scores: Scores,
    ) -> tuple[Predictions, AttentionRecord]:
        """Predictions of a batch, and the map of the scores that they stand on.

        Arguments as for ``AttentionSource.look``. The second pass draws the numbers of
        the first again. A map is 0 where nothing is predicted.

        Raises:
            InferenceError: a layer without a map, or one that no score depends on.
        """
        # A host writes its predictions into the samples that it is given.
        samples = [sample.clone() for sample in data['data_samples']]
        before = random_state()
        predictions = predict()
        after = random_state()

        def score(inputs: Tensor) -> list[Tensor | None]:
            again = dict(data, inputs=inputs, data_samples=samples)
            return scores(model, again, predictions)

        set_random_state(before)
        try:
            maps = self.activate(model, data['inputs'], _Scoring(model, score))[1]
        except _NothingPredictedError:
            maps = data['inputs'].new_zeros(len(data['inputs']), 1, 1)
        finally:
            set_random_state(after)
        found = AttentionMaps.certain(maps.unsqueeze(1))
        return predictions, {self.layer or '': [(found,)]}

    def activate(
        self, model: nn.Module, inputs: Tensor, scoring: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scores ``(B, K)``, and the map ``(B, h, w)`` of the highest, in [0, 1].

        Args:
            model: model in eval mode.
            inputs: images ``(B, C, H, W)`` as it takes them.
            scoring: module that holds it and makes the scores; None is itself.
        """
        scoring = model if scoring is None else scoring
        if self.layer is None:
            only = hasattr(model, 'backbone') and not hasattr(model, 'head')
            within = 'backbone' if only else ''
            state = random_state()
            self.layer = default_layer(model, inputs, within, scoring)
            set_random_state(state)
        layer = named_module(model, self.layer)
        return class_activation(scoring, layer, inputs, self.method)


MapSource = AttentionSource | ClassActivationSource


class _NothingPredictedError(Exception):
    """No image of a batch has a score."""


class _Scoring(nn.Module):
    """A model of any host as the library takes it: images to scores ``(B, 1)``."""

    def __init__(
        self, model: nn.Module, scores: Callable[[Tensor], list[Tensor | None]]
    ) -> None:
        super().__init__()
        self.model = model
        self.scores = scores

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.scores(inputs)
        if all(score is None for score in found):
            raise _NothingPredictedError
        nothing = inputs.new_zeros(())
        return torch.stack([nothing if x is None else x for x in found]).unsqueeze(1)


def merged(
    source: MapSource, levels: list[AttentionMaps], level: str | int
) -> tuple[list[AttentionMaps], str | int]:
    """What ``combine_levels`` takes of a source; bits are summed to one map before.

    Args:
        source: source of the maps.
        levels: the levels of all its modules, in the model's order.
        level: choice among them.
    """
    bits = combine_bits(levels, level) if isinstance(source, BitsSource) else None
    return (levels, level) if bits is None else ([AttentionMaps.certain(bits)], 'mean')


def read_source(text: str) -> MapSource:
    """The source that a text names, one of ``FORMS``.

    Raises:
        ValueError: another form.
    """
    kind, colon, module = str(text).partition(':')
    methods = {method.lower(): method for method in METHODS}
    if kind.lower() in methods and bool(colon) == bool(module):
        return ClassActivationSource(methods[kind.lower()], module or None)
    if kind in ('features', 'gate') and module:
        return FeatureSource(module, is_gate=kind == 'gate')
    plain = {'attention': AttentionSource, 'bits': BitsSource}
    if text in plain:
        return plain[text]()
    raise ValueError(f'source must be one of {", ".join(FORMS)}, got {text!r}')


def named_module(model: nn.Module, name: str) -> nn.Module:
    """A module of a model.

    Raises:
        ValueError: there is none of this name; with the nearest one.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        parts = [child for child, _ in model.named_children()]
        near = did_you_mean(name, [one for one in modules if one])
        raise ValueError(
            f'{type(model).__name__} has no module {name!r}; '
            + (near or f'its parts are {", ".join(parts)}')
        )
    return modules[name]
