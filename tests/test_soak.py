"""A long training holds neither memory nor descriptors: ``AIB_SOAK_MINUTES=120``."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from cifar_files import environment

pytest.importorskip('mmpretrain')

#: The figure in docs/reliability.md is of 120.
MINUTES = float(os.environ.get('AIB_SOAK_MINUTES', '3'))
#: In the beginning buffers, pools and worker processes are still being made.
WARM_UP = min(10.0, MINUTES / 3)
MIB = 2**20

CONFIG = """
_base_ = '{repo}/configs/mmpretrain/vgg16-narrow_aib_qt_digitscenes.py'
train_cfg = dict(max_epochs=1000000, val_interval=2)
param_scheduler = dict(_delete_=True, type='ConstantLR', factor=1.0, by_epoch=False)
train_dataloader = dict(batch_size=16, num_workers=1, persistent_workers=True)
val_dataloader = dict(num_workers=1, persistent_workers=True)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=2, max_keep_ckpts=2, save_best='auto'),
)
custom_hooks = [
    dict(type='AIBMonitorHook'),
    dict(type='AttentionVisualizationHook', images=4),
]
visualizer = dict(
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
)
"""


class Use(NamedTuple):
    """Of a process and its children: resident MiB, and open files.

    Pages of a forked worker are counted there too: less, and the total would grow as
    they stop being shared.
    """

    memory: float
    descriptors: int

    @classmethod
    def of(cls, process: psutil.Process) -> 'Use':
        family = [process, *process.children(recursive=True)]
        memory = sum(each.memory_info().rss for each in family)
        return cls(memory / MIB, sum(each.num_fds() for each in family))


def measure(process: psutil.Process, minutes: float) -> list[Use]:
    """One a second; a moment at which a child ends is passed over."""
    found = []
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        time.sleep(1)
        try:
            found.append(Use.of(process))
        except psutil.NoSuchProcess:
            assert process.is_running()
    return found


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.slow
def test_memory_and_descriptors_stay(repo: Path, tmp_path: Path) -> None:
    """With validation, checkpoints, workers and pictures in two backends."""
    make = [sys.executable, str(repo / 'tools/digit_scenes.py')]
    sizes = ['--parts', 'classification', '--train', '320', '--test', '40']
    subprocess.run([*make, *sizes], cwd=tmp_path, env=environment(), check=True)
    (tmp_path / 'soak.py').write_text(CONFIG.format(repo=repo))
    log = tmp_path / 'soak.log'
    with log.open('w') as out:
        process = subprocess.Popen(
            [sys.executable, str(repo / 'tools/train.py'), 'soak.py'],
            cwd=tmp_path,
            env=environment(),
            stdout=out,
            stderr=out,
        )
    try:
        family = psutil.Process(process.pid)
        measure(family, WARM_UP)
        uses = measure(family, MINUTES - WARM_UP)
        assert process.poll() is None, log.read_text()[-3000:]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # A tenth at either end: validation and training take turns within it.
    tenth = len(uses) // 10
    first, last = uses[:tenth], uses[-tenth:]
    before, after = (median([use.memory for use in part]) for part in (first, last))
    # Not the largest: files are open for a moment while they are written.
    files = [median([use.descriptors for use in part]) for part in (first, last)]
    epochs = log.read_text().count('Saving checkpoint') * 2
    print(
        f'{epochs} epochs of 20 iterations: {before:.1f} to {after:.1f} MiB '
        f'({after / before - 1:+.2%}), {files[0]} to {files[1]} descriptors'
    )
    assert epochs >= 4
    assert after <= 1.02 * before
    assert files[1] <= files[0] + 1
