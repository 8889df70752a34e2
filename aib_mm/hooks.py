"""Hooks for any host's Runner: losses for foreign heads, and monitoring."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from aib_mm.attention import attention_modules
from aib_mm.entropy import OF_ONE_PASS
from aib_mm.errors import check_count
from aib_mm.features import (
    AttentionMaps,
    AttentionModule,
    WithAttention,
    take_losses,
)
from aib_mm.losses import NeckLoss
from aib_mm.quantizer import anchor_usage, perplexity
from aib_mm.utils.wrappers import unwrapped


class _ForwardObserver(Hook):
    """A hook that watches forward passes during training and lets go afterwards."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        self.after_train(runner)  # a training that failed has not let go

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


@HOOKS.register_module()
class AIBLossHook(_ForwardObserver):
    """Add the neck's losses to the loss dict of a model whose heads are foreign.

    Heads of aib_mm take the losses themselves. A head that does not use the
    attention leaves them; this hook then adds ``loss_vq`` and ``loss_cmt`` (paper,
    Eq. 18), and ``loss_price`` of a priced map, to what the model returns in
    ``mode='loss'``. Where a model trains on several batches in one iteration, as the
    semi-supervised detectors of mmdet do, the terms of each are added, with weight 1
    whatever the model weighs the batch by.

    Args:
        vq_weight: weight of the anchors' loss, Eq. 16.
        commit_weight: weight of the scores' loss, Eq. 17.
        attention_price: price of a nat in the map; every attention must report them.
        price_begin: iteration at which the price begins to rise from 0; a float is a
            share of all iterations.
        price_end: iteration or share from which it is whole.
    """

    def __init__(
        self,
        vq_weight: float = 0.4,
        commit_weight: float = 0.1,
        attention_price: float = 0.0,
        price_begin: float = 0,
        price_end: float = 0,
    ) -> None:
        super().__init__()
        self.neck_loss = NeckLoss(
            vq_weight, commit_weight, attention_price, price_begin, price_end
        )
        self._attended: list[WithAttention] = []

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        model = unwrapped(runner.model)
        modules = attention_modules(runner.model)
        for name, module in modules.items():
            quantizes = getattr(module, 'quantizer', None) is not None
            if quantizes or self.neck_loss.attention_price > 0:
                _refuse_checkpointing(model, name)
        for module in modules.values():
            self._handles.append(module.register_forward_hook(self._keep))
        self._handles.append(model.register_forward_pre_hook(self._clear))
        self._handles.append(model.register_forward_hook(self._add))

    def _clear(self, model: nn.Module, inputs: Any) -> None:
        self._attended.clear()

    def _keep(self, module: nn.Module, inputs: Any, output: WithAttention) -> None:
        # A teacher in training mode predicts without gradients (SoftTeacher of mmdet).
        if module.training and torch.is_grad_enabled():
            self._attended.append(output)

    def _add(self, model: nn.Module, inputs: Any, output: Any) -> Any:
        attended, self._attended = self._attended, []
        if not model.training or not isinstance(output, dict):
            return output
        for features in attended:
            self.neck_loss.check_neck(features)
        # A head of aib_mm may have taken them already.
        found = [take_losses(features) for features in attended]
        self.neck_loss.check_taken(found)
        if 'loss' in output and 'loss_cls' not in output and any(found):
            # mmpretrain's heads. The log's "loss" is the total.
            output['loss_cls'] = output.pop('loss')
        for taken in found:
            for name, value in self.neck_loss(taken).items():
                share = value if 'loss' in name else value / len(attended)
                output[name] = output.get(name, 0) + share
        return output


def _refuse_checkpointing(model: nn.Module, name: str) -> None:
    parts = name.split('.')
    for count in range(1, len(parts)):
        around = '.'.join(parts[:count])
        if getattr(model.get_submodule(around), 'with_cp', False):
            raise ValueError(
                f'with_cp=True of {around} computes the attention {name} anew in the '
                'backward pass, too late for the losses that AIBLossHook adds: set '
                'with_cp=False there'
            )


@HOOKS.register_module()
class MergedFieldsHook(Hook):
    """Keep off merged predictions what is true of one view only.

    Test-time augmentation merges scores, boxes or logits, and takes the rest from one
    of its views. What heads of aib_mm write of their samples (``entropy.OF_ONE_PASS``)
    would then stand beside a prediction that it does not describe: it is taken off
    the views. So is ``pred_label`` where mmpretrain averages the scores alone; it is
    their ``argmax``. Where no predictions are merged, nothing is done.
    """

    def __init__(self) -> None:
        self._hooks = ExitStack()

    def before_val(self, runner: Runner) -> None:
        self._watch(runner)

    def after_val(self, runner: Runner) -> None:
        self._hooks.close()

    def before_test(self, runner: Runner) -> None:
        self._watch(runner)

    def after_test(self, runner: Runner) -> None:
        self._hooks.close()

    def _watch(self, runner: Runner) -> None:
        self._hooks.close()
        model = unwrapped(runner.model)
        if isinstance(model, BaseTTAModel):
            self._hooks.enter_context(without_fields_of_views(model))


def without_fields_of_views(model: BaseTTAModel) -> Any:
    """A handle, and context manager, while which views lack what is not merged."""
    names: tuple[str, ...] = OF_ONE_PASS
    if type(model).__name__ == 'AverageClsScoreTTA':
        # It averages the scores, and leaves the first view's label beside them.
        names = (*names, 'pred_label')
    return unwrapped(model.module).register_forward_hook(partial(_drop, names))


def _drop(names: Sequence[str], module: nn.Module, inputs: Any, output: Any) -> None:
    for sample in output if isinstance(output, list | tuple) else ():
        if isinstance(sample, BaseDataElement):
            for name in names:
                sample.pop(name, None)


@HOOKS.register_module()
class AIBMonitorHook(_ForwardObserver):
    """Log what the attention does, through the Runner's log and visualizer backends.

    Every ``interval`` iterations and at the end of every epoch, per ``AIBAttention``
    (or attention of another method) and level:

    - to the training log, and with it to every backend: mean of the attention, its
      spread over positions (std of the mean map), mean of its std, and with a quantiser
      the perplexity of the anchors in use;
    - to the backends alone: value of each anchor and share of positions that took it.

    The divergence in nats, ``kl_nats``, is in the loss dict of aib_mm's heads and so
    already in the log. What this hook logs are means over the processes, each of which
    sees a part of the batch. In a model without attention it says so once, and idles.

    Args:
        interval: iterations between two looks.
        max_anchors: anchors written one by one; of more, only the perplexity and the
            range are written, and this is said once.
    """

    def __init__(self, interval: int = 50, max_anchors: int = 64) -> None:
        super().__init__()
        check_count('interval', interval, 1)
        check_count('max_anchors', max_anchors, 0)
        self.interval = interval
        self.max_anchors = max_anchors
        self._due = False
        self._seen: list[tuple[str, Tensor | None, tuple[AttentionMaps, ...]]] = []

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self._seen.clear()
        try:
            modules = attention_modules(runner.model)
        except ValueError as error:  # a monitor stops no training
            print_log(
                f'AIBMonitorHook has nothing to log: {error}',
                logger='current',
                level=logging.WARNING,
            )
            return
        for name, module in modules.items():
            prefix = 'attention' if len(modules) == 1 else name
            observe = partial(self._observe, prefix)
            self._handles.append(module.register_forward_hook(observe))
            count = _num_anchors(module)
            if count > self.max_anchors:
                print_log(
                    f'AIBMonitorHook: {name} has {count} anchors, more than '
                    f'max_anchors={self.max_anchors}: their values and shares are not '
                    'logged one by one',
                    logger='current',
                )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        # Small sets have fewer iterations an epoch than the interval.
        self._due = (
            self.every_n_train_iters(runner, self.interval)
            or (runner.iter + 1) % len(runner.train_dataloader) == 0
        )

    def _observe(
        self, prefix: str, module: AttentionModule, inputs: Any, output: WithAttention
    ) -> None:
        # Writing waits for after_train_iter: what hangs on the model is copied with
        # it, and must not hold the Runner.
        if self._due and module.training:
            quantizer = getattr(module, 'quantizer', None)
            # Copied here: sharded weights are whole during the forward pass only.
            anchors = None if quantizer is None else quantizer.anchors.detach().clone()
            self._seen.append((prefix, anchors, output.attention))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        seen, self._seen = self._seen, []
        for prefix, anchors, attention in seen:
            for level, maps in enumerate(attention):
                name = prefix if len(attention) == 1 else f'{prefix}.{level}'
                statistics = attention_statistics(maps)
                means = over_processes(torch.tensor(list(statistics.values())))
                for key, value in zip(statistics, means.tolist(), strict=True):
                    runner.message_hub.update_scalar(f'train/{name}_{key}', value)
                if maps.indices is not None and anchors is not None:
                    self._log_anchors(runner, name, anchors, maps.indices)

    def _log_anchors(
        self, runner: Runner, name: str, anchors: Tensor, indices: Tensor
    ) -> None:
        usage = over_processes(anchor_usage(indices, len(anchors)))
        scalars = {
            f'{name}/anchor_min': anchors.min().item(),
            f'{name}/anchor_max': anchors.max().item(),
        }
        if len(anchors) <= self.max_anchors:
            for i, value in enumerate(anchors.tolist()):
                scalars[f'{name}/anchor/{i:02d}'] = value
            for i, share in enumerate(usage.tolist()):
                scalars[f'{name}/share/{i:02d}'] = share
        hub, step = runner.message_hub, runner.iter + 1
        hub.update_scalar(f'train/{name}_perplexity', perplexity(usage).item())
        runner.visualizer.add_scalars(scalars, step=step)


def attention_statistics(maps: AttentionMaps) -> dict[str, float]:
    """Mean and spread over positions of the mean attention, and mean of its std."""
    return {
        'mean': maps.mean.mean().item(),
        'spread': maps.mean.flatten(1).std(dim=1, correction=0).mean().item(),
        'std': maps.std.mean().item(),
    }


def over_processes(values: Tensor) -> Tensor:
    """The mean over all processes; as it is where there is one."""
    all_reduce(values, op='mean')
    return values


def _num_anchors(module: AttentionModule) -> int:
    quantizer = getattr(module, 'quantizer', None)
    return 0 if quantizer is None else quantizer.anchors.numel()
