"""Several processes on a machine without a GPU.

``--launcher pytorch`` makes mmengine select a CUDA device before anything else, which
fails where there is none. ``prepare_cpu_distributed`` does what the Runner would have
done, on gloo; the Runner then finds a process group and leaves it alone.
"""

import datetime
import os
import subprocess
import warnings
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from torch import distributed

from aib_mm.errors import choose
from aib_mm.utils.configs import walk

#: Per launcher: the variables that hold rank, number of processes and local rank.
_LAUNCHER_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': (
        'OMPI_COMM_WORLD_RANK',
        'OMPI_COMM_WORLD_SIZE',
        'OMPI_COMM_WORLD_LOCAL_RANK',
    ),
}
_DEFAULT_PORT = '29500'  # of torch.distributed, and of mmengine
#: Wrappers that take torch's ``device_ids``; others are passed on as they are.
_DDP_TYPES = ('MMDistributedDataParallel', 'DistributedDataParallel')
# Groups stay referenced until exit. Else a wrapped model may be the last to hold one;
# freeing it then waits, with Python's lock held, for a gloo thread that may itself be
# waiting for that lock to free the last gradient: a deadlock seen with torch 2.11.
_ended_groups: list[distributed.ProcessGroup | None] = []
_SYNC_NORMS = ('SyncBN', 'MMSyncBN', torch.nn.SyncBatchNorm)


def prepare_cpu_distributed(cfg: Config, launcher: str) -> bool:
    """Make a config run in several processes without a GPU; call before the Runner.

    Without a GPU and with a launcher: starts a gloo process group from the launcher's
    environment variables, sets ``cfg.model_wrapper_cfg`` for the CPU (what the config
    sets there is kept, ``device_ids`` apart) and replaces SyncBN, which torch has for
    GPUs only, by BN. With a GPU, or with launcher ``'none'``, nothing changes.

    Args:
        cfg: the whole config; changed in place.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Returns:
        Whether the config now runs on gloo.

    Raises:
        ValueError: unknown launcher.
        RuntimeError: a variable that the launcher should have set is missing.
    """
    choose('launcher', launcher, ['none', *_LAUNCHER_VARIABLES])
    if launcher == 'none' or get_device() != 'cpu':
        return False
    if not distributed.is_initialized():
        os.environ.update(_rendezvous(launcher))
        seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
        timeout = None if seconds is None else datetime.timedelta(seconds=seconds)
        distributed.init_process_group('gloo', timeout=timeout)
    cfg.launcher = launcher
    cfg.model_wrapper_cfg = _cpu_wrapper(cfg)
    cfg.sync_bn = None
    replaced = _replace_sync_bn(cfg.get('model'))
    if replaced and distributed.get_rank() == 0:
        warnings.warn(
            f'{replaced} SyncBN layer settings run as BN: without a GPU each process '
            f'normalises its own part of the batch',
            stacklevel=2,
        )
    return True


def shut_down() -> None:
    """End the process group, if there is one, after work that succeeded."""
    if distributed.is_available() and distributed.is_initialized():
        _ended_groups.append(distributed.group.WORLD)
        distributed.destroy_process_group()


def _rendezvous(launcher: str) -> dict[str, str]:
    """The variables of torch's ``env://`` method, from the launcher's own."""
    names = _LAUNCHER_VARIABLES[launcher]
    address = 'MASTER_ADDR'
    if launcher == 'slurm' and address not in os.environ:
        address = 'SLURM_NODELIST'
    missing = [name for name in (*names, address) if name not in os.environ]
    if missing:
        raise RuntimeError(
            f'launcher {launcher!r} needs the environment variables '
            f'{", ".join(missing)}; start through tools/dist_train.sh, '
            f'tools/slurm_train.sh or mpirun with MASTER_ADDR set, or use '
            f'--launcher none'
        )
    rank, world_size, local_rank = (os.environ[name] for name in names)
    return {
        'RANK': rank,
        'WORLD_SIZE': world_size,
        'LOCAL_RANK': local_rank,
        'MASTER_ADDR': os.environ.get('MASTER_ADDR') or _first_slurm_host(),
        'MASTER_PORT': os.environ.get('MASTER_PORT', _DEFAULT_PORT),
    }


def _first_slurm_host() -> str:
    command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
    return subprocess.check_output(command, text=True).split()[0]


def _cpu_wrapper(cfg: Config) -> ConfigDict:
    wrapper = ConfigDict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    asked = cfg.get('model_wrapper_cfg') or {}
    kind = asked.get('type', wrapper.type)
    if getattr(kind, '__name__', kind) not in _DDP_TYPES:
        return asked
    wrapper.update(asked)
    wrapper.device_ids = None
    return wrapper


def _replace_sync_bn(node: Any) -> int:
    """Turn every SyncBN into BN below ``node``; returns how many."""
    parts = [part for _, part in walk(node) if isinstance(part, dict)]
    norms = [part for part in parts if part.get('type') in _SYNC_NORMS]
    for norm in norms:
        norm['type'] = 'BN'
    return len(norms)
