"""mmengine's checkpoints under torch's safe loader, and what it goes on refusing."""

import functools
import importlib.metadata
import os
import pickle
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.optim import OneCycleLR
from mmengine.runner import CheckpointLoader, Runner
from mmengine.utils import digit_version
from torch import serialization

from aib_mm.training.checkpoint import (
    POINTER,
    RESUME_KEYS,
    CheckpointError,
    allow_mmengine_checkpoints,
    check_checkpoint,
)
from aib_mm.training.safe_checkpoint import SafeCheckpointHook

IS_ONEDL = any(
    dist.metadata['Name'] == 'onedl-mmengine'
    for dist in importlib.metadata.distributions()
)

pytestmark = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6.0'),
    reason='torch.load is not strict by default before 2.6',
)


@pytest.fixture(autouse=True)
def safe_globals(monkeypatch):
    """Every test starts from what ``import aib_mm`` declares, and leaves it so."""
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', raising=False)
    before = serialization.get_safe_globals()
    allow_mmengine_checkpoints()
    yield
    serialization.clear_safe_globals()
    serialization.add_safe_globals(before)


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='tensor'):
        error = (self.weight - torch.stack(inputs)).square().mean()
        return dict(loss=error) if mode == 'loss' else [self.weight.detach()]


class Weight(BaseMetric):
    default_prefix = 'line'

    def process(self, data_batch, data_samples) -> None:
        self.results.extend(float(sample) for sample in data_samples)

    def compute_metrics(self, results) -> dict:
        # numpy numbers reach the checkpoint through the message hub's history
        return dict(weight=np.float64(np.mean(results)), count=np.int64(len(results)))


def runner(work_dir, epochs, **settings):
    loader = dict(
        batch_size=2,
        dataset=[dict(inputs=torch.ones(1)) for _ in range(4)],
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    best = dict(type='CheckpointHook', save_best='line/weight', rule='greater')
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_cfg=dict(),
        test_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        val_evaluator=[Weight()],
        test_evaluator=[Weight()],
        default_hooks=dict(checkpoint=best),
        experiment_name=f'line_{work_dir.name}_{epochs}_{len(settings)}',
        cfg=Config(),
        **settings,
    )


@pytest.fixture
def saved(tmp_path):
    """A checkpoint after one epoch of a Runner, written the ordinary way."""
    runner(tmp_path, 1).train()
    return tmp_path / 'epoch_1.pth'


def test_resumed_training_is_the_uninterrupted_one(saved, tmp_path):
    resumed = runner(tmp_path, 2, resume=True)
    resumed.train()
    assert resumed.epoch == 2
    whole = runner(tmp_path / 'whole', 2)
    whole.train()
    before = CheckpointLoader.load_checkpoint(str(saved))['state_dict']['weight'].item()
    assert whole.model.weight.item() != before
    assert resumed.model.weight.item() == whole.model.weight.item()
    history = resumed.message_hub.get_scalar('train/loss')
    assert len(history.data[0]) == 4, 'two iterations before and two after'


class Steps(Hook):
    """Counts the iterations that are trained."""

    count = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.count += 1


def test_a_test_leaves_the_name_of_the_last_checkpoint(saved, tmp_path):
    pointer = tmp_path / POINTER
    pointer.write_text('gone.pth')
    safe = dict(custom_hooks=[SafeCheckpointHook(), steps := Steps()])
    runner(tmp_path, 1, load_from=str(saved), **safe).test()
    assert pointer.read_text() == 'gone.pth'
    runner(tmp_path, 2, resume=True, **safe).train()
    assert steps.count == 2, 'it went on from the first epoch'
    assert Path(pointer.read_text()).name == 'epoch_2.pth'


def test_a_checkpoint_without_an_optimizer_is_not_forgotten(saved, tmp_path):
    content = torch.load(saved)
    del content['optimizer']
    for path in tmp_path.glob('*.pth'):
        torch.save(content, path)
    hooks = [SafeCheckpointHook(), steps := Steps()]
    runner(tmp_path, 2, resume=True, custom_hooks=hooks).train()
    assert steps.count == 2, 'mmengine went on from it'


def test_test_reads_the_weights(saved, tmp_path):
    weight = torch.load(saved)['state_dict']['weight'].item()
    assert weight != 0
    metrics = runner(tmp_path, 1, load_from=str(saved)).test()
    assert metrics['line/weight'] == pytest.approx(weight)


@pytest.mark.skipif(IS_ONEDL, reason="OneDL's mmengine declares the classes itself")
def test_without_the_declaration_the_loader_refuses(saved, tmp_path):
    serialization.clear_safe_globals()
    with pytest.raises(pickle.UnpicklingError, match='Unsupported global'):
        runner(tmp_path, 2, resume=True).train()


def test_a_declaration_that_was_taken_back_is_made_anew(saved):
    serialization.clear_safe_globals()
    check_checkpoint(saved)


def test_reads_history_and_numpy_values(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    content = dict(
        history=history,
        scalars=[np.float32(1.5), np.int64(3), np.bool_(True)],
        arrays=[np.arange(3), np.zeros((2, 2), np.float16), np.array(['cat', 'dog'])],
    )
    torch.save(content, tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth')
    assert loaded['history'].mean() == 1.5
    assert loaded['scalars'] == content['scalars']
    for found, expected in zip(loaded['arrays'], content['arrays'], strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('strategy', ['cos', 'linear'])
def test_reads_the_state_of_one_cycle(tmp_path, strategy):
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), 0.1)
    schedule = OneCycleLR(optimizer, 0.1, total_steps=9, anneal_strategy=strategy)
    torch.save(schedule.state_dict(), tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth')
    assert loaded['anneal_func'] is schedule.anneal_func


@pytest.mark.parametrize('module', ['numpy.core', 'numpy._core'])
def test_reads_the_names_of_numpy_1_and_2(tmp_path, module):
    path = tmp_path / 'a.pth'
    torch.save([np.arange(3)], path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes().replace(b'numpy._core.', b'numpy.core.')
    assert b'numpy.core.multiarray' in raw
    path.write_bytes(raw.replace(b'numpy.core.', f'{module}.'.encode()))
    np.testing.assert_array_equal(torch.load(path)[0], np.arange(3))


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'payload',
    [
        lambda mark: Calls(os.system, f'touch {mark}'),
        lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Calls(getattr, HistoryBuffer, '__init__'),
        lambda mark: Calls(getattr, np.ndarray, 'tofile'),
    ],
    ids=['system', 'eval', 'getattr-method', 'getattr-numpy'],
)
@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_code_is_refused_and_does_not_run(tmp_path, payload, zipped):
    mark, path = tmp_path / 'mark', tmp_path / 'bad.pth'
    content = dict(state_dict={}, meta=payload(mark))
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
    with pytest.raises(CheckpointError, match=r'bad\.pth'):
        check_checkpoint(path)
    assert not mark.exists()


def test_refused_names_and_the_remedy_are_said(tmp_path):
    path = tmp_path / 'bad.pth'
    torch.save(dict(meta=Calls(os.system, 'true')), path)
    with pytest.raises(CheckpointError, match=r'names .*system.*ONLY_LOAD=1'):
        check_checkpoint(path)


def test_check_accepts_a_runners_checkpoint(saved):
    check_checkpoint(saved, RESUME_KEYS)


def test_check_accepts_the_format_before_torch_1_6(tmp_path):
    torch.save(
        dict(state_dict={'weight': torch.ones(1)}),
        tmp_path / 'old.pth',
        _use_new_zipfile_serialization=False,
    )
    check_checkpoint(tmp_path / 'old.pth')


def test_check_leaves_names_of_mmengine_to_it():
    assert check_checkpoint('torchvision://resnet18') is None


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, and the address that it is served at; downloads go beside it."""
    folder = tmp_path / 'served'
    folder.mkdir()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    handler = functools.partial(QuietHandler, directory=folder)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


def test_what_is_downloaded_is_read_by_the_safe_loader(served, tmp_path):
    folder, address = served
    mark = tmp_path / 'mark'
    torch.save(dict(meta=Calls(os.system, f'touch {mark}')), folder / 'bad.pth')
    with pytest.raises(CheckpointError, match=r'bad\.pth names .*system'):
        check_checkpoint(f'{address}/bad.pth')
    assert not mark.exists()
    # Why it is looked at: this is how mmengine reads a download.
    CheckpointLoader.load_checkpoint(f'{address}/bad.pth')
    assert mark.exists() or IS_ONEDL


def test_a_good_download_is_there_for_mmengine(served, tmp_path):
    folder, address = served
    torch.save(dict(state_dict={'weight': torch.ones(1)}), folder / 'good.pth')
    assert check_checkpoint(f'{address}/good.pth')['state_dict']['weight'] == 1
    (folder / 'good.pth').unlink()
    loaded = CheckpointLoader.load_checkpoint(f'{address}/good.pth')
    assert loaded['state_dict']['weight'] == 1


def test_a_download_that_fails_is_named(served, tmp_path):
    with pytest.raises(CheckpointError, match=r'none\.pth cannot be downloaded .*404'):
        check_checkpoint(f'{served[1]}/none.pth')


def test_check_names_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r'none\.pth does not exist; give'):
        check_checkpoint(tmp_path / 'none.pth')


def test_check_names_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match='is a folder'):
        check_checkpoint(tmp_path)


@pytest.mark.parametrize('cut', [0, 40, 1000], ids=['empty', 'head', 'most'])
def test_check_names_a_damaged_file(saved, cut):
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match='damaged or no checkpoint at all'):
        check_checkpoint(saved)


def test_check_wants_a_dict(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match=r'holds a list.* \([\d,]+ bytes\)'):
        check_checkpoint(tmp_path / 'list.pth')


def test_check_names_what_resuming_lacks(tmp_path):
    torch.save(dict(state_dict={}, meta={}), tmp_path / 'weights.pth')
    check_checkpoint(tmp_path / 'weights.pth')
    with pytest.raises(
        CheckpointError, match=r'no message_hub, optimizer.*--load-from '
    ):
        check_checkpoint(tmp_path / 'weights.pth', RESUME_KEYS)
