"""Progress of training and testing: live bars on a terminal, lines elsewhere."""

import time
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOSS_WINDOW = 20  # iterations that the shown loss is averaged over


def make_progress(console: Console) -> Progress:
    """Bars for ``ProgressHook``; switched off where the output is no terminal."""
    return Progress(
        TextColumn('{task.description:<28}'),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn('eta'),
        TimeRemainingColumn(),
        TextColumn('{task.fields[status]}'),
        console=console,
        disable=not console.is_terminal,
    )


class ProgressHook(Hook):
    """One bar per training and per test; elsewhere a line per epoch and per test.

    Args:
        progress: from ``make_progress``, started.
        name: what is trained or tested.

    Attributes:
        seconds: wall time of the finished training or test, without setting it up.
    """

    priority = 'VERY_LOW'

    def __init__(self, progress: Progress, name: str) -> None:
        super().__init__()
        self.progress = progress
        self.name = name
        self.seconds = 0.0
        self._started = 0.0

    def before_train(self, runner: Runner) -> None:
        self._begin(f'train {self.name}', runner.max_iters)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        status = f'epoch {runner.epoch + 1}/{runner.max_epochs}  {_loss(runner)}'
        self.progress.update(self._task, advance=1, status=status)

    def after_train_epoch(self, runner: Runner) -> None:
        done = runner.epoch + 1
        spent = time.perf_counter() - self._started
        left = spent / done * (runner.max_epochs - done)
        self._line(
            f'train {self.name}: epoch {done}/{runner.max_epochs}, {_loss(runner)}, '
            f'{spent:.0f} s, eta {left:.0f} s'
        )

    def after_train(self, runner: Runner) -> None:
        self.seconds = time.perf_counter() - self._started

    def before_test(self, runner: Runner) -> None:
        self._begin(f'test {self.name}', len(runner.test_dataloader))

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        self.progress.update(self._task, advance=1)

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        images = len(runner.test_dataloader.dataset)
        self.progress.update(self._task, status=f'{images:,} images')
        self._line(f'test {self.name}: {images:,} images, {self.seconds:.0f} s')

    def _begin(self, text: str, total: int) -> None:
        self._started = time.perf_counter()
        self._task = self.progress.add_task(text, total=total, status='')

    def _line(self, text: str) -> None:
        if self.progress.disable:
            self.progress.console.print(text, highlight=False)


def _loss(runner: Runner) -> str:
    loss = runner.message_hub.get_scalar('train/loss').mean(LOSS_WINDOW)
    return f'loss {loss:.3f}'
