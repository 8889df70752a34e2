"""Hooks that keep what every process does, for trainings that a command starts.

They set no seed and draw nothing. A config takes them by name: ``environment`` of
``cifar_files`` lets subprocesses import this module.

``NoiseRecorder`` works out what was drawn from what goes in and comes out.
``draws_<mode>_<rank>.pth`` in its folder holds per kind the draws, one tensor for each
call; ``step_<rank>.pth`` the first iteration's batch, weights, state of torch's
generator, averaged gradients and buffers afterwards.

``ResultRecorder`` writes ``result_<rank>.pth``: the loss of every iteration, weights
and state at the end, and what is logged of the attention.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from aib_mm.adversarial import Discriminator
from aib_mm.attention import AIBAttention
from aib_mm.encoders import GaussianEncoder
from aib_mm.modulation import ReplaceModulation
from aib_mm.noise import AdditiveNoise
from aib_mm.utils.wrappers import unwrapped


def drawn_by(module: nn.Module, inputs: tuple, output: Any) -> dict[str, Tensor]:
    """Standard normal draws of one call, by kind; of dropout 1 where kept."""
    if isinstance(module, AIBAttention) and not module.noise:
        (maps,) = output.attention
        return {'a': (maps.samples - maps.mean) / maps.std}
    if isinstance(module, GaussianEncoder):
        return {'z': (output.samples - output.mean) / output.std}
    if isinstance(module, AdditiveNoise):
        return {'noise': (output - inputs[0]) / module.std}
    if isinstance(module, ReplaceModulation):
        x, a = inputs
        share = (1 - a.clamp(0, module.MAX_SCORE)) * module.running_std[:, None, None]
        return {'replace': (output - module.expected(x, a)) / share}
    if isinstance(module, nn.Dropout) and module.training:
        kept = (output != 0).float()
        return {'dropout': torch.where(inputs[0] != 0, kept, torch.nan)}
    return {}


@HOOKS.register_module()
class NoiseRecorder(Hook):
    """Keep draws, and the first iteration, of each process.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.draws: dict[str, list[Tensor]] = defaultdict(list)
        self.step: dict[str, Any] = {}

    def _watch(self, runner: Runner) -> None:
        self.draws.clear()
        for module in unwrapped(runner.model).modules():
            module.register_forward_hook(self._keep)
            if isinstance(module, Discriminator):
                module.register_forward_pre_hook(self._keep_prior)

    def _keep(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        for kind, draw in drawn_by(module, inputs, output).items():
            self.draws[kind].append(draw.detach())

    def _keep_prior(self, module: nn.Module, inputs: tuple) -> None:
        # Of its three calls an iteration, the first is on draws from the prior.
        if not inputs[0].requires_grad and len(self.draws['prior']) < self.calls:
            self.draws['prior'].append(inputs[0])

    def _save(self, mode: str) -> None:
        path = self.folder / f'draws_{mode}_{get_rank()}.pth'
        torch.save(dict(self.draws), path)

    def before_train(self, runner: Runner) -> None:
        self.calls = 0
        self._watch(runner)
        optimizer = runner.optim_wrapper.optimizer
        optimizer.register_step_pre_hook(lambda *_: self._keep_gradients(runner))

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        self.calls += 1
        if not self.step:
            weights = unwrapped(runner.model).state_dict()
            self.step = dict(
                batch=data_batch,
                weights={name: value.clone() for name, value in weights.items()},
                state=torch.get_rng_state(),
            )

    def _keep_gradients(self, runner: Runner) -> None:
        if 'gradients' not in self.step:
            self.step['gradients'] = {
                name: parameter.grad.clone()
                for name, parameter in unwrapped(runner.model).named_parameters()
            }

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if 'buffers' not in self.step:
            buffers = unwrapped(runner.model).named_buffers()
            self.step['buffers'] = {name: value.clone() for name, value in buffers}

    def after_train(self, runner: Runner) -> None:
        self._save('train')
        torch.save(self.step, self.folder / f'step_{get_rank()}.pth')

    def before_test(self, runner: Runner) -> None:
        self._watch(runner)

    def after_test(self, runner: Runner) -> None:
        self._save('test')


@HOOKS.register_module()
class ResultRecorder(Hook):
    """Keep losses, and what each process ends with, in the work folder."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict
    ) -> None:
        self.losses.append(outputs['loss'].item())

    def after_train(self, runner: Runner) -> None:
        scalars = runner.message_hub.log_scalars
        model = unwrapped(runner.model)
        result = dict(
            losses=self.losses,
            parameters=dict(model.named_parameters()),
            weights=model.state_dict(),
            scalars={
                key: buffer.data[0].tolist()
                for key, buffer in scalars.items()
                if 'attention' in key
            },
        )
        torch.save(result, Path(runner.work_dir, f'result_{get_rank()}.pth'))
