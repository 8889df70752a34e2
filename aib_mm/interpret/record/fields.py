"""Attention into the data samples of any host, whatever its heads are."""

import logging
from contextlib import ExitStack
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from aib_mm.errors import check_count
from aib_mm.features import AttentionMaps
from aib_mm.hooks import without_fields_of_views
from aib_mm.interpret.record.levels import combine_bits, combine_levels
from aib_mm.interpret.record.recording import watch
from aib_mm.interpret.record.source import (
    AttentionSource,
    ClassActivationSource,
    Predictions,
    merged,
    read_source,
)
from aib_mm.interpret.record.windows import Levels, Windows, slide_windows, whole_levels
from aib_mm.utils.wrappers import unwrapped

FIELDS = ('attention_mean', 'attention_std', 'attention_bits')


class PredictionMapsHook(Hook):
    """A hook that has the attention behind each prediction of validation and test.

    A subclass says in ``use`` what it does with it. The attention of other methods
    (``AttentionModule``) is taken as that of ``AIBAttention`` is; the levels of several
    modules together, in the model's order.

    The maps of mmseg's slide inference are put together (``Windows.join``). ``use`` is
    not called, and one warning says why, where one prediction is of several passes
    of another kind: test-time augmentation. What heads write of one pass is then taken
    off the predictions, as by ``MergedFieldsHook``.

    Args:
        level: what ``combine_levels`` takes.
        source: what the maps are, ``'attention'`` or as ``read_source`` takes it. Not
            class activation: validation and test keep no gradients.

    Raises:
        ValueError: another ``level`` or ``source``; in validation or test, a model
            without attention, without that module or without that level.
    """

    def __init__(self, level: str | int = 'mean', source: str = 'attention') -> None:
        if level != 'mean':
            check_count("level, if it is not 'mean',", level, -1)
        self.level = level
        found = read_source(source)
        if isinstance(found, ClassActivationSource):
            raise ValueError(
                f'source={source!r} needs gradients, which validation and test do not '
                "keep: use 'features:MODULE' in hooks, or "
                f'tools/visualize_attention.py with --source {source}'
            )
        self.source: AttentionSource = found
        self._hooks = ExitStack()
        self._seen: dict[str, list[Levels]] = {}
        self._windows: Windows | None = None
        self._warned = False

    def use(
        self, samples: Predictions, mean: Tensor, std: Tensor, bits: Tensor | None
    ) -> None:
        """Do something with the predictions and their maps, ``(B, 1, h, w)`` each.

        ``bits`` are what ``combine_bits`` gives. All lie over the network's input with
        its padding (``interpret.map_on_image`` takes that off).
        """
        raise NotImplementedError

    def before_val(self, runner: Runner) -> None:
        self._watch(runner.model)

    def after_val(self, runner: Runner) -> None:
        self._hooks.close()

    def before_test(self, runner: Runner) -> None:
        self._watch(runner.model)

    def after_test(self, runner: Runner) -> None:
        self._hooks.close()

    def _watch(self, model: nn.Module) -> None:
        # After an error mmengine calls no hook, so an earlier evaluation may have left
        # its own here.
        self._hooks.close()
        inner = unwrapped(model)
        looked_at = inner.module if isinstance(inner, BaseTTAModel) else inner
        assert isinstance(looked_at, nn.Module)
        modules = self.source.modules(looked_at)
        if looked_at is not inner:
            self._warn(f'{type(inner).__name__} merges several predictions into one')
            self._hooks.enter_context(without_fields_of_views(inner))
            return
        self._hooks.enter_context(watch(modules, self._keep))
        self._hooks.enter_context(
            inner.register_forward_pre_hook(self._begin, with_kwargs=True)
        )
        self._hooks.enter_context(watch({'': inner}, self._finish))

    def _begin(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self._seen.clear()
        inputs = kwargs['inputs'] if 'inputs' in kwargs else args[0]
        self._windows = slide_windows(model, tuple(inputs.shape[-2:]))

    def _keep(self, name: str, inputs: Any, output: Any) -> None:
        self._seen.setdefault(name, []).append(self.source.maps(output))

    def _finish(self, name: str, inputs: Any, output: Any) -> None:
        seen, self._seen = self._seen, {}
        if not seen or not _are_data_samples(output):
            return
        levels: list[AttentionMaps] = []
        for passes in seen.values():
            whole = whole_levels(passes, self._windows)
            if whole is None:
                self._warn('the model goes through it several times for one batch')
                return
            levels += whole
        levels, level = merged(self.source, levels, self.level)
        mean, std = combine_levels(levels, level)
        if len(mean) != len(output):
            self._warn(f'the model makes {len(output)} predictions of {len(mean)} maps')
            return
        bits = combine_bits(levels, level)
        self.use(output, mean.detach(), std.detach(), bits)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            print_log(
                f'{type(self).__name__} has no {self.source}: {reason}, so that no map '
                'belongs to a prediction',
                logger='current',
                level=logging.WARNING,
            )
        self._warned = True


@HOOKS.register_module()
class AttentionFieldsHook(PredictionMapsHook):
    """Write the attention into the data samples of validation and test.

    Every data sample that the model returns in ``mode='predict'`` gets
    ``attention_mean`` and ``attention_std``, ``(1, h, w)``, over the network's input
    with its padding; without the second where nothing is random. Where the neck
    reports what its map lets through, ``attention_bits`` ``(1, h, w)`` is that, in bits
    a position. For evaluators and drawing hooks, whatever the heads are: nothing else
    in this package writes these fields.
    """

    def use(
        self, samples: Predictions, mean: Tensor, std: Tensor, bits: Tensor | None
    ) -> None:
        """Write the fields."""
        fields = (mean, std if std.any() else None, bits)
        for name, values in zip(FIELDS, fields, strict=True):
            if values is not None:
                for sample, value in zip(samples, values, strict=True):
                    sample.set_field(value.detach(), name)


def _are_data_samples(output: Any) -> bool:
    return isinstance(output, list | tuple) and all(
        isinstance(sample, BaseDataElement) for sample in output
    )
