"""Stop a training whose loss is not finite, before it spoils the weights."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from aib_mm.training.safe_checkpoint import checkpoint_due
from aib_mm.utils.wrappers import unwrapped


class NonFiniteLossError(RuntimeError):
    """A loss or a weight became NaN or infinite: component, iteration and images."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop training in the iteration in which a loss becomes NaN or infinite.

    The model's losses are looked at before the backward pass, so that neither weights
    nor checkpoints are touched: the last checkpoint is from before. Every component
    whose name contains "loss", and so is summed, counts; gradients do not, as under
    mixed precision infinite ones are normal. Before a checkpoint or a validation the
    weights are looked at too, as a finite loss may have infinite gradients.

    With several processes all of them stop, at the cost of exchanging one number in
    each iteration. The images of a batch whose forward pass raises an error are logged.
    """

    priority = 'LOW'  # after hooks that add losses

    def __init__(self) -> None:
        self._handle: Any = None
        self._iteration = 0

    def before_train(self, runner: Runner) -> None:
        if self._handle is not None:  # of a training that failed
            self._handle.remove()
        # No reference to the Runner: what hangs on the model is copied with it.
        self._handle = unwrapped(runner.model).register_forward_hook(
            self._look, with_kwargs=True, always_call=True
        )

    def after_train(self, runner: Runner) -> None:
        self._handle.remove()

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        self._iteration = runner.iter + 1

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if checkpoint_due(runner):
            self.after_train_epoch(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Look at the weights, which a checkpoint may be saved with."""
        parameters = dict(unwrapped(runner.model).named_parameters())
        broken = [name for name, value in parameters.items() if not _is_finite(value)]
        problem = ''
        if broken:
            problem = (
                f'{len(broken)} of {len(parameters)} weights, {broken[0]} the first, '
                f'after iteration {self._iteration}, whose losses were finite: lower '
                'the learning rate or clip the gradients'
            )
        _stop_together(problem)

    def before_val(self, runner: Runner) -> None:
        if self._handle is not None:  # else it is a validation without training
            self.after_train_epoch(runner)

    def _look(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if not model.training or kwargs.get('mode') != 'loss':
            return
        given = {**dict(zip(('inputs', 'data_samples'), args, strict=False)), **kwargs}
        samples = given.get('data_samples')
        inputs = given.get('inputs')
        if output is None:  # the forward pass raised an error, which goes on its way
            text = f'the forward pass of iteration {self._iteration} failed with '
            text += ', '.join(image_names(samples))
            print_log(text, logger='current', level=logging.ERROR)
            return
        broken = non_finite_losses(output) if isinstance(output, dict) else []
        problem = ', '.join(broken)
        if broken:
            problem += f' in iteration {self._iteration}, with '
            problem += ', '.join(image_names(samples, inputs))
        _stop_together(problem)


def non_finite_losses(losses: dict[str, Any]) -> list[str]:
    """Components that are NaN or infinite, as ``'loss_cls[1] is nan'``."""
    parts: dict[str, Tensor] = {}
    # What the Runner sums: every tensor, or list of them, under a key with "loss".
    for name in (name for name in losses if 'loss' in name):
        if isinstance(losses[name], Tensor):
            parts[name] = losses[name]
        else:
            parts.update({f'{name}[{i}]': one for i, one in enumerate(losses[name])})
    return [
        f'{name} is {value.detach().float().mean().item()}'
        for name, value in parts.items()
        if not _is_finite(value)
    ]


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value.detach()).all())


def image_names(samples: Iterable | None, inputs: Any = None) -> list[str]:
    """Path of each data sample, or its number in the data set.

    With ``inputs``, the images as the model gets them, the ones with pixels that are
    not finite are marked.
    """
    names = []
    for index, sample in enumerate(samples or []):
        path = sample.get('img_path')
        name = f'sample {sample.get("sample_idx", "?")}' if path is None else str(path)
        if inputs is not None and not _is_finite(inputs[index]):
            name += ' (pixels that are not finite)'
        names.append(name)
    return names or ['a batch without data samples']


def _stop_together(problem: str) -> None:
    """Raise in every process as soon as one has a problem, so that none waits.

    Raises:
        NonFiniteLossError: names what every process found.
    """
    if get_world_size() > 1:
        found = torch.tensor(float(bool(problem)))
        all_reduce(found, 'max')
        if not found:
            return
        texts = enumerate(all_gather_object(problem))
        problem = '; '.join(f'process {rank}: {text}' for rank, text in texts if text)
    if problem:
        message = f'training stopped, nothing was saved of it: {problem}'
        print_log(message, logger='current', level=logging.ERROR)
        raise NonFiniteLossError(message)
