"""One model of a benchmark: its passes, their memory and their operations.

Operations are multiply-accumulates of convolutions and matrix products, half of what
``torch.utils.flop_counter`` counts.
"""

import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aib_mm.attention import AIBAttention
from aib_mm.diagnosis.step import add_neck_losses, take_random_weights
from aib_mm.experiments.cost.timing import Pass, peak_bytes
from aib_mm.hosts import HOST_PARTS
from aib_mm.utils.configs import model_settings, walk
from aib_mm.utils.wrappers import input_channels


class CostModel:
    """A model with random weights, a batch of random images, and one image alone.

    Args:
        cfg: its config; nothing that it names is loaded.
        size: height and width of the images.
        batch: images of a pass.
        device: ``'cpu'`` or ``'cuda'``.
    """

    def __init__(
        self, cfg: Config, size: tuple[int, int], batch: int, device: str = 'cpu'
    ) -> None:
        torch.manual_seed(0)
        # Every initialised parameter would be a line.
        MMLogger.get_current_instance().setLevel('ERROR')
        self.size, self.batch, self.device = size, batch, device
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            self.model = _build(cfg).to(device)
            self.wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        part = importlib.import_module(f'{HOST_PARTS[cfg.default_scope]}.random_batch')
        # An RPN has one class, a backbone without a classifier None.
        modules = self.model.modules()
        classes = max(getattr(m, 'num_classes', None) or 1 for m in modules)
        channels = input_channels(self.model)
        self.data = part.random_batch(batch, size, classes, channels=channels)
        self.image = part.random_batch(1, size, classes, channels=channels)
        add_neck_losses(cfg, self.model)  # else a foreign head cannot train

    def step(self, samples: int | None, alone: bool = False) -> Pass:
        """A pass over the batch, with the model set to it.

        Args:
            samples: L_a of a prediction, where 0 also takes the mean latent; None for
                a training step.
            alone: whether the pass is over one image instead.
        """
        data = self.image if alone else self.data
        if samples is None:
            self.model.train()
            return partial(self.model.train_step, data, self.wrapper)
        for name, module in _sampling(self.model):
            module.test_samples = samples if name == 'L_a' else min(samples, 1)
        return self._prediction(data)

    def _prediction(self, data: Any) -> Pass:
        self.model.eval()
        return torch.no_grad()(partial(self.model.test_step, data))

    def memory(self, step: Pass) -> float:
        """Peak of the tensors in MiB: weights, optimizer's state, and a pass's own."""
        held: list[Any] = [*self.model.parameters(), *self.model.buffers()]
        if self.model.training:
            held += (value for _, value in walk(self.wrapper.state_dict()))
        there = sum(one.nbytes for one in held if isinstance(one, Tensor))
        return (there + peak_bytes(step, self.device)) / 2**20

    def macs(self, step: Pass) -> dict[str, float]:
        """Multiply-accumulates of a pass per image; both ways for a training step.

        Those of ``'all'``, and the shares of ``'backbone'``, ``'neck'`` and ``'head'``.
        """
        with FlopCounterMode(display=False) as counter:
            step()
        found = counter.get_flop_counts()
        name = type(self.model).__name__
        flops = {
            part: sum(found.get(f'{name}.{part}', {}).values())
            for part in ('backbone', 'neck')
        }
        # Heads are not called as modules, so that no count bears their name.
        flops['head'] = counter.get_total_flops() - sum(flops.values())
        flops['all'] = counter.get_total_flops()
        return {part: count / 2 / self.batch for part, count in flops.items()}

    def parameters(self) -> int:
        """Number of parameters, learnt or kept fixed, without buffers."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def count(self) -> dict[str, Any]:
        """Costs that need no clock: parameters, and multiply-accumulates of one image.

        They are taken with ``one_sample`` of everything that is sampled, also by
        ``parts`` of the model, and as in a ``test`` of the config, with ``samples``.
        """
        samples: dict[str, int] = {}
        for name, module in _sampling(self.model):
            # A head behind noise in the neck takes one for each of the noise's.
            samples[name] = max(samples.get(name, 0), module.test_samples)
        test = self.macs(self._prediction(self.data))['all']
        parts = self.macs(self.step(1))
        return dict(
            parameters=self.parameters(),
            one_sample=parts.pop('all'),
            test=test,
            samples=samples,
            parts=parts,
        )


def profiled(step: Pass, rows: int) -> str:
    """The operators of one pass, the longest first."""
    with torch.profiler.profile() as found:
        step()
    return found.key_averages().table(
        sort_by='self_cpu_time_total', row_limit=rows, max_name_column_width=40
    )


def _build(cfg: Config) -> BaseModel:
    settings = model_settings(cfg)
    settings.pop('pretrained', None)
    model = MODELS.build(settings)
    take_random_weights(model)
    return model


def _sampling(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The modules that sample at test, each with the paper's name of the number."""
    for module in model.modules():
        if hasattr(module, 'test_samples'):
            yield 'L_a' if isinstance(module, AIBAttention) else 'L_z', module
