"""Trainings killed at any moment go on, and end as if nobody had killed them."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cifar_files import environment, write_cifar10
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import CheckpointLoader
from tiny_runs import count_epochs, tiny_config, train

from aib_mm.training.checkpoint import (
    POINTER,
    RESUME_KEYS,
    check_checkpoint,
    latest_checkpoint,
)
from aib_mm.training.safe_checkpoint import AtomicBackend, SafeCheckpointHook

pytest.importorskip('mmpretrain')

TESTS = Path(__file__).parent
SAFE = [dict(type='SafeCheckpointHook'), dict(type='RandomStateHook')]
UNSAFE = [dict(type='RandomStateHook')]
#: Kills of the slow test; the figure in docs/reliability.md is of 20.
KILLS = int(os.environ.get('AIB_KILLS', '3'))


class Killed(BaseException):
    """The process ends here."""


def kill_at_write(patch: pytest.MonkeyPatch, number: int) -> None:
    """End at the n-th checkpoint that is written, half of its bytes on the disk."""
    put, replace, left = LocalBackend.put, os.replace, [number]

    def last() -> bool:
        left[0] -= 1
        return left[0] == 0

    def put_or_end(self: LocalBackend, obj: bytes, filepath: str) -> None:
        if str(filepath).endswith('.pth') and last():
            Path(filepath).write_bytes(obj[: len(obj) // 2])
            raise Killed
        put(self, obj, filepath)

    def replace_or_end(part: Path, path: Path) -> None:
        if path.suffix == '.pth' and last():
            part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
            # A process that is gone tidies nothing up.
            patch.setattr(Path, 'unlink', lambda *_, **__: None)
            raise Killed
        replace(part, path)

    patch.setattr(LocalBackend, 'put', put_or_end)
    patch.setattr('aib_mm.utils.files.os.replace', replace_or_end)


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    """Two epochs, one checkpoint kept, and the best, for which it is written again."""
    cfg = count_epochs(tiny_config('classification', tmp_path, validate=True), 2)
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, save_best='auto')
    return cfg


def killed(cfg: Config, folder: Path, hooks: list[dict], number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at_write(patch, number)
        with pytest.raises(Killed):
            train(cfg, folder, hooks)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


def test_killed_while_a_checkpoint_is_written(cfg: Config, tmp_path: Path) -> None:
    whole = train(cfg, tmp_path / 'whole', SAFE)
    # In order: epoch_1, best, epoch_1 again in validation, epoch_2.
    for number in (3, 4):
        folder = tmp_path / str(number)
        killed(cfg, folder, SAFE, number)
        assert len(list(folder.glob('*.part'))) == 1
        check_checkpoint(folder / 'epoch_1.pth', RESUME_KEYS)
        # As mim does: the Runner finds the checkpoint.
        resumed = train(cfg, folder, SAFE, resume=True, load_from=None)
        assert resumed.same_weights(whole)
        assert 'epoch_2.pth' in files(folder) and 'epoch_1.pth' not in files(folder)
        assert list(folder.glob('*.part')) == []


@pytest.mark.slow
@pytest.mark.parametrize('number', [3, 4], ids=['in place', 'removed before'])
def test_without_the_hook_nothing_is_left(
    number: int, cfg: Config, tmp_path: Path
) -> None:
    folder = tmp_path / 'run'
    killed(cfg, folder, UNSAFE, number)
    assert latest_checkpoint(folder) is None
    with pytest.raises((RuntimeError, FileNotFoundError)):
        train(cfg, folder, UNSAFE, resume=True, load_from=None)
    # With the hook, which comes too late here, training starts anew.
    assert len(train(cfg, folder, SAFE, resume=True, load_from=None).losses) == 10


@pytest.mark.slow
def test_only_as_many_checkpoints_as_asked_for(cfg: Config, tmp_path: Path) -> None:
    cfg.train_cfg.max_epochs = 3
    cfg.default_hooks.checkpoint.filename_tmpl = 'e{}.pth'
    for name, hooks in (('safe', SAFE), ('host', UNSAFE)):
        train(cfg, tmp_path / name, hooks)
    assert files(tmp_path / 'safe') == files(tmp_path / 'host')
    assert 'e3.pth' in files(tmp_path / 'safe')


def test_one_name_for_all_checkpoints_is_kept(tmp_path: Path) -> None:
    hook, host = SafeCheckpointHook(), CheckpointHook()
    host.file_backend = LocalBackend()
    host.out_dir = str(tmp_path)
    hook.before_train(type('Runner', (), dict(hooks=[host])))
    for name in ('last.pth', 'old.pth'):
        (tmp_path / name).touch()
        host.file_backend.remove(str(tmp_path / name))
    host.last_ckpt = str(tmp_path / 'last.pth')
    hook.after_train_epoch(None)
    assert files(tmp_path) == ['last.pth']


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints and one without an optimizer, the newest."""
    content = {key: {} for key in RESUME_KEYS}
    for age, name in enumerate(['best.pth', 'b.pth', 'a.pth']):
        torch.save(content if name != 'best.pth' else dict(meta={}), tmp_path / name)
        os.utime(tmp_path / name, (10**9 - age, 10**9 - age))
    return tmp_path


@pytest.mark.parametrize(
    ('pointer', 'found', 'said'),
    [
        ('{}/a.pth', 'a.pth', ''),
        ('', 'b.pth', r'last_checkpoint is empty; going on from .*b\.pth'),
        ('{}/cut.pth', 'b.pth', r'cut\.pth cannot be read, .*; going on from'),
        ('elsewhere/c.pth', 'b.pth', r'c\.pth does not exist.*; going on from'),
        ('\xff\x00', 'b.pth', 'going on from'),
    ],
)
def test_latest_checkpoint(
    pointer: str,
    found: str,
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(
        'aib_mm.training.checkpoint.print_log', lambda line, **_: lines.append(line)
    )
    (folder / 'cut.pth').write_bytes((folder / 'a.pth').read_bytes()[:100])
    (folder / POINTER).write_bytes(pointer.format(folder).encode('latin-1'))
    latest = latest_checkpoint(folder)
    assert latest is not None and Path(latest).name == found
    assert len(lines) == bool(said) and re.search(said, ''.join(lines))


@pytest.mark.parametrize('named', ['epoch_10.pth', 'epoch_11.pth'])
def test_a_copied_folder_goes_on_from_most_iterations(
    named: str, tmp_path: Path
) -> None:
    for age, epoch in enumerate((9, 10)):  # the copy of the older one came last
        content = {key: dict(iter=epoch) for key in RESUME_KEYS}
        path = tmp_path / f'epoch_{epoch}.pth'
        torch.save(content, path)
        os.utime(path, (10**9 - age, 10**9 - age))
    (tmp_path / POINTER).write_text(f'/gone/run/{named}')
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_10.pth')


def test_an_empty_name_is_not_looked_for_elsewhere(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch
) -> None:
    work_dir = tmp_path_factory.mktemp('work')
    (work_dir / POINTER).write_text('')
    monkeypatch.chdir(folder)
    assert latest_checkpoint(work_dir) is None


def test_no_latest_checkpoint(folder: Path) -> None:
    assert latest_checkpoint(folder) is None, 'no pointer, no resuming, as mmengine'
    (folder / POINTER).write_text(str(folder / 'a.pth'))
    for name in ('a.pth', 'b.pth'):
        (folder / name).write_bytes(b'')
    assert latest_checkpoint(folder) is None


def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'a.pth'
    AtomicBackend().put(b'old', path)

    def full(descriptor: int) -> None:
        raise OSError('No space left on device')

    monkeypatch.setattr('aib_mm.utils.files.os.fsync', full)
    with pytest.raises(OSError, match='No space left'):
        AtomicBackend().put(b'new', path)
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


ITERATIONS = 300
CONFIG = f"""
_base_ = '{TESTS}/noisy_classifier.py'
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters={ITERATIONS}, val_interval=20
)
train_dataloader = dict(batch_size=4, sampler=dict(type='InfiniteSampler'))
# At the base's rate it depends on a processor's rounding whether it ever diverges.
optim_wrapper = dict(optimizer=dict(lr=0.01))
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(by_epoch=False, interval=2, max_keep_ckpts=1, save_best='auto'),
)
"""


@pytest.mark.slow
def test_killed_at_random_moments(repo: Path, tmp_path: Path) -> None:
    """``tools/train.py CONFIG --resume`` and SIGKILL; which moments, the seed says."""
    write_cifar10(tmp_path / 'data', train_per_batch=4, test=10)
    (tmp_path / 'config.py').write_text(CONFIG)
    program = [sys.executable, str(repo / 'tools/train.py'), 'config.py', '--resume']

    def start(work_dir: str) -> subprocess.Popen:
        log = (tmp_path / f'{work_dir}.log').open('a')
        command = [*program, '--work-dir', work_dir]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=log, stderr=log
        )

    def progress() -> int:
        """Iterations in the newest checkpoint; by name, as it may go at any moment."""
        names = (tmp_path / 'killed').glob('iter_*.pth')
        return max((int(path.stem[5:]) for path in names), default=0)

    moments = random.Random(0)
    done = []
    for _ in range(KILLS):
        process = start('killed')
        before = progress()
        # Some kills come before this process has written a checkpoint, most after.
        target = before + moments.choice([0, 2, 4, 10, 20])
        while progress() < target and process.poll() is None:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, 'it ended too early: more iterations'
        latest = latest_checkpoint(tmp_path / 'killed')
        assert latest or progress() == 0
        done.append(latest and check_checkpoint(latest)['meta']['iter'])
    assert start('killed').wait() == 0, (tmp_path / 'killed.log').read_text()[-3000:]
    assert start('whole').wait() == 0
    print(f'{KILLS} kills, checkpoints of iterations {done}')
    name = f'iter_{ITERATIONS}.pth'
    weights = [
        CheckpointLoader.load_checkpoint(str(tmp_path / folder / name))['state_dict']
        for folder in ('killed', 'whole')
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])
