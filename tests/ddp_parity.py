"""Do several processes compute the gradients of one? A helper for tests.

``gradient_parity`` starts processes on gloo, lets the Runner build and wrap the model
of a config in each, gives every process its part of one batch, and compares the
gradients after the wrapper's average with those of the unwrapped model on the whole
batch::

    parity = gradient_parity(cfg, make_batch)
    assert parity.gap <= 1e-6 < parity.largest

Both callables run in the processes, so they must be importable functions. ``prepare``
gets the unwrapped model in training mode: freeze norm layers there, and fix noise.
"""

import os
import socket
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from torch import distributed, nn
from torch import multiprocessing as mp
from torch.nn.modules.batchnorm import _NormBase

from aib_mm.training.distributed import prepare_cpu_distributed, shut_down


@dataclass(frozen=True)
class Parity:
    """Over all parameters: largest difference, and largest gradient, both absolute.

    ``relative`` is the largest difference in units of the parameter's own largest
    gradient, gradients below 1e-3 counting as that.
    """

    gap: float
    largest: float
    relative: float


def freeze_norms(model: nn.Module) -> None:
    """Let batch norm layers use their running statistics."""
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.eval()


def gradient_parity(
    cfg: Config,
    make_batch: Callable[[], dict[str, list]],
    prepare: Callable[[nn.Module], None] = freeze_norms,
    processes: int = 2,
    by_part: bool = False,
) -> Parity:
    """Compare gradients of ``processes`` processes with those of one.

    Args:
        cfg: any config; its data sets are not touched.
        make_batch: returns ``dict(inputs=[...], data_samples=[...])`` as a data loader
            would, of a length that ``processes`` divides; the same at every call.
        prepare: applied to the unwrapped model before the forward pass.
        processes: how many.
        by_part: compare with the average of the parts' gradients instead: a detector
            divides its losses by what it counts on each process.
    """
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
        probe.close()
        jobs = (processes, port, cfg, make_batch, prepare, by_part, folder)
        context = mp.spawn(_work, jobs, nprocs=processes, join=False)
        join(context)
        return Parity(**torch.load(Path(folder, 'parity.pth')))


def join(context: mp.ProcessContext, seconds: int = 300) -> None:
    """Wait for all processes, and for none longer than ``seconds``."""
    end = time.monotonic() + seconds
    while not context.join(timeout=1):
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            raise TimeoutError(f'the processes did not end within {seconds} s')


def _work(
    rank: int,
    processes: int,
    port: int,
    cfg: Config,
    make_batch: Callable[[], dict[str, list]],
    prepare: Callable[[nn.Module], None],
    by_part: bool,
    folder: str,
) -> None:
    os.environ.update(
        CUDA_VISIBLE_DEVICES='-1',
        RANK=str(rank),
        WORLD_SIZE=str(processes),
        LOCAL_RANK=str(rank),
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
    )
    if 'custom_imports' in cfg:
        import_modules_from_strings(**cfg.custom_imports)
    prepare_cpu_distributed(cfg, 'pytorch')
    cfg.work_dir = folder
    wrapped = Runner.from_cfg(cfg).model
    alone = deepcopy(wrapped.module)
    batch = make_batch()
    size = len(batch['inputs']) // processes
    parts = [
        {key: value[i * size :][:size] for key, value in batch.items()}
        for i in range(processes)
    ]

    found = _gradients(wrapped, wrapped.module, parts[rank], prepare, seed=rank)
    expected = _average(
        [
            _gradients(alone, alone, part, prepare, seed)
            for seed, part in enumerate(parts if by_part else [batch])
        ]
    )
    if found.keys() != expected.keys():
        raise AssertionError(f'gradients differ in: {found.keys() ^ expected.keys()}')
    largest = {key: float(value.abs().max()) for key, value in expected.items()}
    gaps = {key: float((found[key] - expected[key]).abs().max()) for key in found}
    relative = max(gap / max(largest[key], 1e-3) for key, gap in gaps.items())
    worst = torch.tensor([max(gaps.values()), relative])
    distributed.all_reduce(worst, distributed.ReduceOp.MAX)
    if rank == 0:
        gap, relative = worst.tolist()
        parity = dict(gap=gap, relative=relative, largest=max(largest.values()))
        torch.save(parity, Path(folder, 'parity.pth'))
    shut_down()


def _gradients(
    called: nn.Module,
    model: nn.Module,
    batch: dict[str, Any],
    prepare: Callable[[nn.Module], None],
    seed: int,
) -> dict[str, torch.Tensor]:
    """Gradients of one training step; ``called`` is ``model`` or its wrapper."""
    model.train()
    model.zero_grad()
    prepare(model)
    torch.manual_seed(seed)
    data = model.data_preprocessor(deepcopy(batch), training=True)
    loss, _ = model.parse_losses(called(**data, mode='loss'))
    loss.backward()
    return {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _average(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
