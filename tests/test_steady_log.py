"""What a training says while it works, and when somebody stops it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cifar_files import environment, write_cifar10
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aib_mm.training import start, steady_log
from aib_mm.training.steady_log import SteadyLogHook

TESTS = Path(__file__).parent


class Linear(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> dict[str, Tensor]:
        return dict(loss=self.layer(inputs).square().mean())


class Clock(Hook):
    """Each iteration takes ten seconds of a clock that the test owns."""

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        self.now += 10


def logged(
    work_dir: Path, patch: pytest.MonkeyPatch, interval: int, iterations: int = 12
) -> list[int]:
    """Iterations that the log of one epoch has, with 30 seconds of silence at most."""
    clock = Clock()
    patch.setattr(steady_log, 'time', clock)
    data = [dict(inputs=torch.rand(2)) for _ in range(iterations)]
    runner = Runner(
        model=Linear(),
        work_dir=str(work_dir),
        train_dataloader=DataLoader(data),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=interval)),
        custom_hooks=[clock, SteadyLogHook(seconds=30)],
        experiment_name=f'steady_log_{work_dir.name}',
    )
    lines: list[str] = []
    patch.setattr(runner.logger, 'info', lines.append)
    runner.train()
    heads = [line.partition('/')[0] for line in lines if 'Epoch(train)' in line]
    return [int(head.rpartition('[')[2]) for head in heads]


@pytest.mark.parametrize(
    ('interval', 'expected'),
    [
        # The LoggerHook's own last line, 12, ends an epoch shorter than its interval.
        (100, [1, 4, 7, 10, 12]),
        (5, [1, 4, 5, 8, 10]),
        (2, [1, 2, 4, 6, 8, 10, 12]),
    ],
)
def test_the_first_iteration_then_no_long_silence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interval: int,
    expected: list[int],
) -> None:
    assert logged(tmp_path / str(interval), monkeypatch, interval) == expected


def stopped(tmp_path: Path, epochs: int, after: str) -> subprocess.CompletedProcess:
    """``train.py``, interrupted when its output has said ``after``."""
    write_cifar10(tmp_path / 'data', train_per_batch=20, test=10)
    config = tmp_path / 'tiny.py'
    shutil.copy(TESTS / 'tiny_classifier.py', config)
    command = [sys.executable, '-u', str(TESTS.parent / 'tools/train.py'), 'tiny.py']
    command += ['--work-dir', 'out', '--no-validate', '--cfg-options']
    command += [f'train_cfg.max_epochs={epochs}']
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background programs deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if after in line:
            os.kill(process.pid, signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_ctrl_c_names_a_folder_of_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped:
        hooks, iter, max_iters = (), 3, 8

        def register_hook(self, hook: Hook) -> None:
            pass

        def train(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(start, 'build_runner', lambda *_, **__: Stopped())
    cfg = Config(dict(work_dir=str(tmp_path), runner_type='FlexibleRunner'))
    cfg.strategy = dict(type='FSDPStrategy')
    (tmp_path / 'epoch_2.pth').mkdir()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    with pytest.raises(KeyboardInterrupt, match=r'iteration 3 of 8; .* from .*epoch_2'):
        start.train_config(cfg)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('after', 'message'),
    [
        ('Saving checkpoint at 2 epochs', '--resume goes on from out/epoch_'),
        ('Epoch(train)', 'there is no checkpoint yet to go on from'),
    ],
)
def test_ctrl_c_says_where_it_stopped_and_how_to_go_on(
    tmp_path: Path, after: str, message: str
) -> None:
    pytest.importorskip('mmpretrain')
    done = stopped(tmp_path, 500, after)
    assert done.returncode == 130, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('train.py: stopped at iteration ')
    assert message in last
    assert 'Traceback' not in done.stderr
