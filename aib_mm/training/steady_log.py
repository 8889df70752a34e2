"""A training that says early, and every now and then, how far it is."""

import time
from typing import Any

from mmengine.hooks import Hook, LoggerHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class SteadyLogHook(Hook):
    """Log the first iteration, and one whenever the log has been silent for long.

    mmengine's ``LoggerHook`` counts iterations: with its 50 or 100, a slow machine or a
    small set says nothing for minutes. These lines are additional, and only text.

    Args:
        seconds: longest silence, in seconds.
    """

    priority = 'VERY_LOW'  # after the LoggerHook

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds
        self._spoke: float | None = None

    def before_train(self, runner: Runner) -> None:
        self._spoke = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        """Log this iteration if it is the first, or the last line is long ago."""
        now, logs = time.monotonic(), runner.log_processor
        is_late = self._spoke is None or now - self._spoke >= self.seconds
        if self._is_logged(runner, batch_idx):
            self._spoke = now
        elif is_late:
            runner.logger.info(logs.get_log_after_iter(runner, batch_idx, 'train')[1])
            self._spoke = now

    def _is_logged(self, runner: Runner, batch_idx: int) -> bool:
        """Whether a ``LoggerHook`` has just logged this iteration."""
        loader = runner.train_dataloader
        return any(
            self.every_n_inner_iters(batch_idx, hook.interval)
            or (
                self.end_of_epoch(loader, batch_idx)
                and (not hook.ignore_last or len(loader) <= hook.interval)
            )
            for hook in runner.hooks
            if isinstance(hook, LoggerHook)
        )
