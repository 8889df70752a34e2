"""One model of a benchmark: a pass in each mode, its time, its memory, its operations.

Operations are multiply-accumulates of convolutions and matrix products, half of what
``torch.utils.flop_counter`` counts.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aib_mm.attention import AIBAttention
from aib_mm.experiments.grid.rows import Row
from aib_mm.hosts import HOST_PARTS

TRAIN = 'training step'
STATUS = Path('/proc/self/status')


@dataclass(frozen=True)
class Job:
    """One config as its process gets it; ``options`` as for ``--cfg-options``."""

    row: Row
    options: tuple[str, ...]
    size: tuple[int, int]
    batch: int
    device: str
    threads: int


class Seconds(NamedTuple):
    """Of a pass.

    Attributes:
        used: of the CPU's time on a CPU, which is blind to what else the machine does
            meanwhile; by the clock on a GPU.
        wall: by the clock.
    """

    used: float
    wall: float


@dataclass(frozen=True)
class Count:
    """What needs no clock: parameters, and multiply-accumulates of one image.

    Attributes:
        one_sample: with one sample of everything that is sampled.
        test: with as many samples as the config tests with.
        samples: their numbers, such as ``{'L_a': 4, 'L_z': 4}``; empty without any.
        parts: of ``one_sample``, those of the backbone, the neck, and of the heads.
    """

    parameters: int
    one_sample: float
    test: float
    samples: dict[str, int]
    parts: dict[str, float]


class Subject:
    """A model with random weights, a batch of random images, and one image alone."""

    def __init__(self, job: Job) -> None:
        torch.manual_seed(0)
        # Every initialised parameter would be a line.
        MMLogger.get_current_instance().setLevel('ERROR')
        cfg = job.row.load(job.options)
        self.device = job.device
        self.batch = job.batch
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            self.model = _build(cfg).to(job.device)
            self.wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        part = importlib.import_module(f'{HOST_PARTS[cfg.default_scope]}.random_batch')
        # An RPN has one class, a backbone without a classifier None.
        modules = self.model.modules()
        classes = max(getattr(m, 'num_classes', None) or 1 for m in modules)
        self.data = part.random_batch(job.batch, job.size, classes)
        self.image = part.random_batch(1, job.size, classes)
        for hook in cfg.get('custom_hooks') or []:
            if hook['type'] == 'AIBLossHook':  # without it a foreign head cannot train
                HOOKS.build(hook).before_train(SimpleNamespace(model=self.model))

    def step(self, mode: str) -> Callable[[], Any]:
        """Set the model to a mode and give what is measured."""
        self.model.train(mode == TRAIN)
        if mode == TRAIN:
            return partial(self.model.train_step, self.data, self.wrapper)
        _set_samples(self.model, int(mode.rpartition(' ')[2]))
        return self._prediction()

    def seconds(self, mode: str) -> Seconds:
        """Of a pass over the batch."""
        return self._timed(self.step(mode))

    def latency(self, mode: str) -> float:
        """Wall time of the prediction of one image by itself."""
        self.step(mode)
        return self._timed(self._prediction(self.image)).wall

    def _timed(self, step: Callable[[], Any]) -> Seconds:
        if self.device == 'cuda':
            torch.cuda.synchronize()
        start, cpu = time.perf_counter(), time.process_time()
        step()
        if self.device == 'cuda':
            torch.cuda.synchronize()
        wall = time.perf_counter() - start
        used = time.process_time() - cpu
        return Seconds(wall if self.device == 'cuda' else used, wall)

    def macs(self, mode: str) -> float:
        """Multiply-accumulates of a pass, per image; of a training step both ways."""
        return _macs(self.step(mode)).get_total_flops() / 2 / self.batch

    def parameters(self) -> int:
        """How many numbers are learnt or kept fixed, buffers not counted."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def count(self) -> Count:
        """Parameters and multiply-accumulates, without a clock."""
        self.model.eval()
        step = self._prediction()
        samples = _samples(self.model)
        test = _macs(step).get_total_flops() / 2 / self.batch
        _set_samples(self.model, 1)
        counter = _macs(step)
        one = counter.get_total_flops() / 2 / self.batch
        name = type(self.model).__name__
        found = counter.get_flop_counts()
        parts = {
            part: sum(found.get(f'{name}.{part}', {}).values()) / 2 / self.batch
            for part in ('backbone', 'neck')
        }
        # Heads are not called as modules, so that no count bears their name.
        parts['head'] = one - sum(parts.values())
        return Count(self.parameters(), one, test, samples, parts)

    def profile(self, mode: str, rows: int) -> str:
        """The operators of one pass, the longest first."""
        step = self.step(mode)
        with torch.profiler.profile() as found:
            step()
        return found.key_averages().table(
            sort_by='self_cpu_time_total', row_limit=rows, max_name_column_width=40
        )

    def _prediction(self, data: Any = None) -> Callable[[], Any]:
        data = self.data if data is None else data
        return torch.no_grad()(partial(self.model.test_step, data))


def _macs(step: Callable[[], Any]) -> FlopCounterMode:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter


def _build(cfg: Config) -> nn.Module:
    if 'init_cfg' in cfg.model.backbone:
        cfg.model.backbone.init_cfg = None  # nothing is downloaded
    cfg.model.pop('pretrained', None)
    # As the Runner does.
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor', {}))
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def _set_samples(model: nn.Module, count: int) -> None:
    """L_a of the attention, and no latent sample where it is 0."""
    for module in model.modules():
        if isinstance(module, AIBAttention):
            module.test_samples = count
        elif hasattr(module, 'test_samples'):
            module.test_samples = min(count, 1)


def _samples(model: nn.Module) -> dict[str, int]:
    """How many samples of attention and latent a test takes."""
    found: dict[str, int] = {}
    for module in model.modules():
        if hasattr(module, 'test_samples'):
            name = 'L_a' if isinstance(module, AIBAttention) else 'L_z'
            # A head behind noise in the neck takes one for each of the noise's.
            found[name] = max(found.get(name, 0), module.test_samples)
    return found


class MemoryMeter:
    """Peak memory of a GPU, or of the process above what it had before the model."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.start = 0.0 if device == 'cuda' else _status('VmRSS')

    def take(self) -> float:
        """MiB since the last call; the peak of a process only Linux tells."""
        if self.device == 'cuda':
            peak = torch.cuda.max_memory_allocated() / 2**20
            torch.cuda.reset_peak_memory_stats()
            return peak
        peak = _status('VmHWM') - self.start
        Path('/proc/self/clear_refs').write_text('5')  # sets the peak back
        return peak


def _status(key: str) -> float:
    """A field of Linux' process status, in MiB."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(f'{STATUS} has no {key}')
