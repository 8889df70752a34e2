"""Five iterations of each narrow aib_qt config against a log kept in the repository.

A change that is not meant to change training shows here in whatever it touches. After
one that is, write the logs anew and look at the difference::

    AIB_MM_GOLDEN=write python -m pytest tests/test_golden.py
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

pytest.importorskip('mlxtend')
pytest.importorskip('skimage')

GOLDEN = Path(__file__).with_name('golden')
CONFIGS = {
    'mmpretrain': 'vgg16-narrow_aib_qt_digitscenes',
    'mmdet': 'faster_rcnn_r18-narrow_aib_qt_digitscenes',
    'mmseg': 'upernet_beit-narrow_aib_qt_digitscenes',
}
PARTS = dict(mmpretrain='classification', mmdet='scenes', mmseg='scenes')
BATCH = dict(mmpretrain=16, mmdet=2, mmseg=2)
ITERATIONS = 5


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from aib_mm.digitscenes import DigitScenesSpec, generate

    root = tmp_path_factory.mktemp('golden')
    spec = DigitScenesSpec(train=80, test=10, scenes_train=10, scenes_val=1)
    generate(root, spec, num_workers=1, progress=False)
    return root


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Another number of threads sums in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class _Log(Hook):
    """Every loss of every iteration."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any
    ) -> None:
        self.rows.append({k: float(v) for k, v in outputs.items() if 'loss' in k})


def losses_of(host: str, data: Path, work_dir: Path) -> list[dict[str, float]]:
    cfg = Config.fromfile(GOLDEN.parents[1] / f'configs/{host}/{CONFIGS[host]}.py')
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'golden_{host}'
    cfg.randomness = dict(seed=0)
    cfg.train_dataloader.batch_size = BATCH[host]
    cfg.train_dataloader.dataset.data_root = str(data / PARTS[host])
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    for part in ('val', 'test'):
        for key in ('dataloader', 'evaluator', 'cfg'):
            cfg[f'{part}_{key}'] = None
    # By default scores start between two anchors, where the rounding of a machine's
    # instructions decides which one they take.
    cfg.model.neck.initial_score = 0.42
    runner, log = Runner.from_cfg(cfg), _Log()
    if host == 'mmpretrain':
        # Its batch norms see few values: what float32 rounds off would grow.
        runner.model.double()
    runner.register_hook(log)
    runner.train()
    return log.rows


@pytest.mark.usefixtures('one_thread')
@pytest.mark.parametrize('host', CONFIGS)
def test_training_is_the_one_in_the_log(host: str, data: Path, tmp_path: Path) -> None:
    pytest.importorskip(host)
    rows = losses_of(host, data, tmp_path)
    assert len(rows) == ITERATIONS
    path = GOLDEN / f'{CONFIGS[host]}.json'
    if os.environ.get('AIB_MM_GOLDEN') == 'write':
        path.write_text(json.dumps(rows, indent=1) + '\n')
    for step, (found, kept) in enumerate(
        zip(rows, json.loads(path.read_text()), strict=True)
    ):
        assert found['loss'] == pytest.approx(kept['loss'], rel=1e-3), f'step {step}'
        # Single terms move more; those of quantisation are a few 1e-5 of about 2.
        assert found == pytest.approx(kept, rel=3e-3, abs=2e-6), f'step {step}'
