"""Small classifiers of random weights for the tools that measure maps, and their use.

A program is a module such as ``aib_mm.cli.localization``.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from cifar_files import environment
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

TINY = Path(__file__).with_name('tiny_classifier.py')
AIB = """
model = dict(
    neck=dict(_delete_=True, type='AIBAttention', in_channels=32, std_shift=0.0),
    head=dict(
        _delete_=True,
        type='AIBClsHead',
        num_classes=10,
        latent_dim=8,
        encoder=dict(type='GaussianEncoder', in_features=32, std_shift=0.0),
    ),
)
"""


def write_models(folder: Path, configs: Mapping[str, str]) -> None:
    """Configs over the tiny classifier, and two checkpoints of each.

    ``configs`` are texts by name; ``NAME.py``, ``NAME0.pth`` and ``NAME1.pth`` are
    written.
    """
    for name, text in configs.items():
        config = folder / f'{name}.py'
        config.write_text(f'_base_ = {str(TINY)!r}\n{text}')
        for number in (0, 1):
            torch.manual_seed(number)
            state = dict(state_dict=build(config).state_dict())
            torch.save(state, folder / f'{name}{number}.pth')


def build(config: Path) -> nn.Module:
    """With weights that tell images apart, and no map that is all at one place."""
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # Without a mean, else all images get one class; and of a size that keeps
            # values from growing layer by layer: scores in their hundreds show the
            # rounding of one machine in every figure.
            weight = torch.randn_like(module.weight).flatten(1)
            weight -= weight.mean(dim=1, keepdim=True)
            gain = 1.0 if len(weight) == 1 else 2**0.5
            std = gain / weight.shape[1] ** 0.5
            module.weight.data = (std * weight).view_as(module.weight)
    return model


def figures_of(program: ModuleType, arguments: tuple[str, ...], out: Path) -> Any:
    """The JSON that a run of a program leaves in ``out``."""
    assert program.main([*arguments, '--out', str(out)]) == 0
    (path,) = out.glob('*.json')
    return json.loads(path.read_text())


def assert_refused(
    program: ModuleType,
    arguments: list[str],
    message: str,
    out: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """A program ends with one line that matches, before it writes anything."""
    assert program.main([*arguments, '--out', str(out)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f'{program.make_parser().prog}: error: ')
    assert re.search(message, error), error
    assert not out.exists()


def stdout_of(tool: Path, *arguments: str | Path, cwd: Path) -> str:
    """What a tool prints, started as a user starts it."""
    done = subprocess.run(
        [sys.executable, *map(str, [tool, *arguments])],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
