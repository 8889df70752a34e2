"""Checkpoints that survive a process killed at any moment.

mmengine writes a checkpoint in place, after it has removed the one that it replaces.
A process killed in between leaves a file cut short, or ``last_checkpoint`` naming a
file that is gone, and then cannot resume.
"""

import os
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from aib_mm.training.checkpoint import (
    POINTER,
    CheckpointError,
    check_checkpoint,
    latest_checkpoint,
    named_checkpoint,
)
from aib_mm.utils.files import PART, write_atomically

BACKEND = 'aib_mm.atomic'


@register_backend(BACKEND, force=True)
class AtomicBackend(LocalBackend):
    """Local files that are either written in full or as they were before."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_atomically(filepath, obj)


class _LateRemovals(AtomicBackend):
    """Collects the files that are to go."""

    def __init__(self) -> None:
        self.waiting: list[str] = []

    def remove(self, filepath: str | Path) -> None:
        self.waiting.append(os.fspath(filepath))


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Let what the Runner's ``CheckpointHook`` writes survive a killed process.

    Beside a ``CheckpointHook``, whose settings it leaves alone:

    - a checkpoint is written under another name and renamed when it is complete;
    - checkpoints to be removed (``max_keep_ckpts``, ``save_best``) go afterwards;
    - before a training, ``last_checkpoint`` is made to name the latest checkpoint that
      can be resumed, with a warning, if the one it names cannot. If it names none that
      can even be read, it is removed, and training starts anew.

    A validation or a test changes nothing. Folders that are not local files are left to
    their own backends.
    """

    priority = 'LOWEST'  # after CheckpointHook

    def __init__(self) -> None:
        self._hooks: list[CheckpointHook] = []

    def before_run(self, runner: Runner) -> None:
        # Runner.val and Runner.test call this too, and leave the loop as its config.
        if not isinstance(runner._train_loop, BaseLoop):
            return
        if is_main_process():
            _mend_pointer(Path(runner.work_dir))
        barrier()

    def before_train(self, runner: Runner) -> None:
        self._hooks = [
            hook
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook)
            and isinstance(hook.file_backend, LocalBackend)
        ]
        for hook in self._hooks:
            hook.backend_args = dict(backend=BACKEND)
            hook.file_backend = _LateRemovals()
            if is_main_process():  # what a killed process left
                for part in Path(hook.out_dir).glob(f'*.pth.*{PART}'):
                    part.unlink(missing_ok=True)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Remove the checkpoints that have been replaced by then."""
        for hook in self._hooks:
            waiting, hook.file_backend.waiting = hook.file_backend.waiting, []
            bests = getattr(hook, 'best_ckpt_path_dict', {}).values()
            # One name for all checkpoints: it was written again in the meantime.
            kept = {hook.last_ckpt, getattr(hook, 'best_ckpt_path', None), *bests}
            for path in waiting:
                if path not in kept:
                    Path(path).unlink(missing_ok=True)

    after_train_epoch = after_val_epoch = after_train_iter


def _mend_pointer(work_dir: Path) -> None:
    """Let ``last_checkpoint`` name what mmengine can go on from."""
    pointer, named = work_dir / POINTER, named_checkpoint(work_dir)
    if named is None or (named and Path(named).is_dir()):  # shards, for their strategy
        return
    latest = latest_checkpoint(work_dir)
    if latest is not None:
        if latest != pointer.read_text(errors='replace').strip():
            write_atomically(pointer, latest)
        return
    try:  # mmengine goes on from bare weights too, with a new optimizer
        check_checkpoint(named)
    except CheckpointError:
        pointer.unlink()


def checkpoint_due(runner: Runner) -> bool:
    """Whether a ``CheckpointHook`` saves after the iteration that just ended."""
    return any(
        isinstance(hook, CheckpointHook)
        and not hook.by_epoch
        and (
            hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and hook.is_last_train_iter(runner))
        )
        for hook in runner.hooks
    )
