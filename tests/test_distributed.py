"""Several processes without a GPU: config, environment, gradients, scripts."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ddp_parity import gradient_parity, join
from mmengine.config import Config
from torch import distributed
from torch import multiprocessing as mp

from aib_mm.training.distributed import prepare_cpu_distributed, shut_down


@pytest.fixture
def one_process(monkeypatch):
    """The environment of torchrun with one process, on a machine without a GPU."""
    monkeypatch.setattr('aib_mm.training.distributed.get_device', lambda: 'cpu')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    for name, value in {
        'RANK': 0,
        'WORLD_SIZE': 1,
        'LOCAL_RANK': 0,
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': port,
    }.items():
        monkeypatch.setenv(name, str(value))
    yield monkeypatch
    shut_down()


def test_without_launcher_nothing_changes():
    cfg = Config(dict(model=dict(type='SyncBN')))
    assert prepare_cpu_distributed(cfg, 'none') is False
    assert cfg.to_dict() == dict(model=dict(type='SyncBN'))
    assert not distributed.is_initialized()


def test_with_gpu_nothing_changes(monkeypatch):
    monkeypatch.setattr('aib_mm.training.distributed.get_device', lambda: 'cuda')
    cfg = Config(dict(model=dict(type='SyncBN')))
    assert prepare_cpu_distributed(cfg, 'pytorch') is False
    assert cfg.to_dict() == dict(model=dict(type='SyncBN'))


def test_starts_gloo_with_the_configs_timeout(one_process):
    cfg = Config(dict(env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=7))))
    assert prepare_cpu_distributed(cfg, 'pytorch') is True
    assert distributed.get_backend() == 'gloo'
    group = distributed.group.WORLD
    assert group._get_backend(torch.device('cpu')).options._timeout.seconds == 7
    assert cfg.launcher == 'pytorch'
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=False,
        device_ids=None,
    )


@pytest.mark.parametrize(
    'settings',
    [
        dict(find_unused_parameters=True),
        dict(model_wrapper_cfg=dict(find_unused_parameters=True)),
        dict(model_wrapper_cfg=dict(find_unused_parameters=True, device_ids=[0])),
    ],
)
def test_keeps_wrapper_settings(one_process, settings):
    cfg = Config(settings)
    prepare_cpu_distributed(cfg, 'pytorch')
    assert cfg.model_wrapper_cfg.find_unused_parameters is True
    assert cfg.model_wrapper_cfg.device_ids is None


def test_passes_other_wrappers_on(one_process):
    cfg = Config(dict(model_wrapper_cfg=dict(type='MySharding', shards=2)))
    prepare_cpu_distributed(cfg, 'pytorch')
    assert cfg.model_wrapper_cfg == dict(type='MySharding', shards=2)


def test_replaces_sync_bn(one_process):
    norm = dict(type='SyncBN', requires_grad=True)
    model = dict(norm_cfg=norm, neck=[dict(norm_cfg=norm)], head=dict(type='Head'))
    cfg = Config(dict(model=model, sync_bn='torch'))
    with pytest.warns(UserWarning, match='2 SyncBN layer settings run as BN'):
        prepare_cpu_distributed(cfg, 'pytorch')
    assert cfg.model.norm_cfg == dict(type='BN', requires_grad=True)
    assert cfg.model.neck[0].norm_cfg.type == 'BN'
    assert cfg.model.head.type == 'Head'
    assert cfg.sync_bn is None


def test_slurm_variables(one_process, tmp_path):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$3" = "n[1-2]" ] && echo localhost b')
    scontrol.chmod(0o755)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        one_process.delenv(name)
    for name, value in {
        'SLURM_PROCID': '0',
        'SLURM_NTASKS': '1',
        'SLURM_LOCALID': '0',
        'SLURM_NODELIST': 'n[1-2]',
        'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}',
    }.items():
        one_process.setenv(name, value)
    assert prepare_cpu_distributed(Config(dict()), 'slurm') is True
    assert os.environ['MASTER_ADDR'] == 'localhost'
    assert distributed.get_world_size() == 1


def test_missing_variables_are_named(one_process):
    one_process.delenv('RANK')
    with pytest.raises(RuntimeError, match='environment variables RANK; start through'):
        prepare_cpu_distributed(Config(dict()), 'pytorch')


def test_unknown_launcher():
    with pytest.raises(ValueError, match=r"launcher must be one of .*got 'ray'"):
        prepare_cpu_distributed(Config(dict()), 'ray')


def make_batch() -> dict[str, list]:
    from mmpretrain.structures import DataSample

    pixels = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=pixels, dtype=torch.uint8)
    samples = [DataSample().set_gt_label(index) for index in range(8)]
    return dict(inputs=list(images), data_samples=samples)


def leave_as_is(model: torch.nn.Module) -> None:
    """Batch statistics differ between the parts of a batch: the negative control."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ('prepare', 'equal'), [(None, True), (leave_as_is, False)], ids=['frozen', 'not']
)
def test_two_processes_give_the_gradients_of_one(prepare, equal):
    pytest.importorskip('mmpretrain')
    cfg = Config.fromfile(Path(__file__).parent / 'tiny_classifier.py')
    options = {} if prepare is None else {'prepare': prepare}
    parity = gradient_parity(cfg, make_batch, **options)
    assert parity.largest > 1e-2
    assert (parity.gap <= 1e-6) is equal


def _rounds(rank: int, folder: str, rounds: int) -> None:
    for index in range(rounds):
        store = distributed.FileStore(f'{folder}/{index}', 2)
        distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
        _train_and_shut_down()


def _train_and_shut_down() -> None:
    layers = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(4)])
    model = torch.nn.parallel.DistributedDataParallel(layers)
    model(torch.ones(2, 64)).sum().backward()
    distributed.all_reduce(torch.ones(1))
    shut_down()  # the model outlives the group, for as long as this function runs


@pytest.mark.slow
def test_shut_down_does_not_deadlock(tmp_path):
    # With destroy_process_group alone, one round in about six never ended.
    join(mp.spawn(_rounds, (str(tmp_path), 30), nprocs=2, join=False))


PROGRAM = """
import os, sys, time
rank = int(os.environ['RANK'])
if rank == 0:
    print('threads', os.environ['OMP_NUM_THREADS'], 'arguments', sys.argv[1:])
if sys.argv[1] == 'fail' and rank == 1:
    sys.exit(3)
"""


def dist_run(repo: Path, program: Path, *arguments: str, **variables: str):
    command = ['bash', str(repo / 'tools/dist_run.sh'), str(program), *arguments]
    environment = {**os.environ, 'PYTHON': sys.executable, **variables}
    environment.pop('OMP_NUM_THREADS', None)
    environment.update(variables)
    return subprocess.Popen(
        command,
        env=environment,
        cwd=program.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_dist_run_passes_arguments_and_threads(repo, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(PROGRAM)
    # Two at a time: each picks a port of its own.
    runs = [
        dist_run(repo, program, '2', 'ok', 'a b'),
        dist_run(repo, program, '1', 'ok', '*', OMP_NUM_THREADS='7'),
    ]
    results = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], results
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert f"threads {threads} arguments ['ok', 'a b']" in results[0][0]
    assert "threads 7 arguments ['ok', '*']" in results[1][0]


def test_dist_run_fails_when_one_process_fails(repo, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(PROGRAM)
    run = dist_run(repo, program, '2', 'fail')
    run.communicate(timeout=120)
    assert run.returncode != 0


def test_dist_run_wants_a_number_of_processes(repo, tmp_path):
    run = dist_run(repo, tmp_path / 'program.py', 'two')
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "must be a positive integer, got 'two'" in errors
