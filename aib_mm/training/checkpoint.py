"""Checkpoints of mmengine and torch's safe loader.

Since torch 2.6 ``torch.load`` refuses, unless told otherwise, every class a checkpoint
names that was not declared safe. mmengine's own checkpoints name its ``HistoryBuffer``
and numpy arrays, so that neither ``--resume`` nor a test can read them. The loader is
kept safe here: what mmengine writes is declared, and nothing else.
"""

import io
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.utils import digit_version
from torch import hub, serialization

from aib_mm.utils.files import write_atomically

#: Keys of a checkpoint from which ``Runner.resume`` can go on.
RESUME_KEYS = ('meta', 'state_dict', 'message_hub', 'optimizer')
#: File of a work folder in which mmengine names the latest checkpoint.
POINTER = 'last_checkpoint'
_DTYPE_CODES = np.typecodes['AllInteger'] + np.typecodes['AllFloat'] + '?US'


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: the file, the cause and the remedy."""


def _attributes() -> dict[type, Collection[str]]:
    """The functions that mmengine's checkpoints look up on a class, by class."""
    HistoryBuffer()  # fills in its statistics
    return {
        HistoryBuffer: vars(HistoryBuffer)['_statistics_methods'],
        OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
    }


def _attribute(owner: Any, name: str) -> Callable:
    """Stand in for ``getattr`` in a checkpoint, for the uses of mmengine only.

    A function of a class is pickled as ``getattr(HistoryBuffer, 'mean')``. ``getattr``
    itself would open every attribute of every allowed object to a checkpoint.
    """
    if isinstance(owner, type) and name in _attributes().get(owner, ()):
        return getattr(owner, name)
    raise pickle.UnpicklingError(
        'a checkpoint may ask for the statistics of HistoryBuffer and the annealing '
        f'of OneCycleParamScheduler only, this one asks for attribute {name!r} of '
        f'{owner!r}'
    )


def _safe_globals() -> list[Any]:
    """What mmengine's checkpoints name, as ``add_safe_globals`` wants it."""
    makers: list[Any] = [one.__reduce__()[0] for one in (np.zeros(0), np.float64(0))]
    # numpy 1 and numpy 2 write different names for the same functions.
    functions = [
        (maker, f'numpy.{core}.multiarray.{maker.__name__}')
        for maker in makers
        for core in ('core', '_core')
    ]
    dtypes = {type(np.dtype(code)) for code in _DTYPE_CODES}
    named = [(_attribute, 'builtins.getattr'), *functions]
    return [*_attributes(), *named, np.ndarray, np.dtype, *dtypes]


def allow_mmengine_checkpoints() -> None:
    """Let torch's safe loader read the checkpoints that mmengine writes.

    Called by ``import aib_mm``; calling it again changes nothing. Before torch 2.6
    there is nothing to do: ``torch.load`` is not strict there unless asked to be.
    """
    if digit_version(torch.__version__) >= digit_version('2.6.0'):
        serialization.add_safe_globals(_safe_globals())


def save_atomically(content: Mapping, path: str | Path) -> None:
    """``torch.save`` that leaves a whole file or the one that was there before."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def check_checkpoint(
    path: str | Path, keys: Collection[str] = ()
) -> dict[str, Any] | None:
    """Raise unless the Runner will be able to load a checkpoint.

    The file is read by the safe loader, but the tensors stay on disk, so that it costs
    little for a large file. What is at ``http://…`` or ``https://…`` is downloaded to
    where mmengine looks for it and read too: mmengine itself reads a download with a
    loader that runs code. Other addresses, such as ``torchvision://…``, stand for files
    that mmengine chooses, and are left to it.

    Args:
        path: a local file or an address.
        keys: entries that the checkpoint must have; ``RESUME_KEYS`` for resuming.

    Returns:
        Content of the checkpoint; None for an address that is left to mmengine.

    Raises:
        CheckpointError: names the file, the cause and the remedy.
    """
    path = os.fspath(path)
    file = _local_file(path)
    if file is None:
        return None
    content = _read(file)
    if not isinstance(content, dict):
        raise CheckpointError(
            f'checkpoint {path} holds a {type(content).__name__}, not the dict of a '
            f'checkpoint ({_size(file)}); give a file that a Runner saved'
        )
    if not isinstance(content.get('state_dict', {}), dict):
        kind = type(content['state_dict']).__name__
        raise CheckpointError(
            f'checkpoint {path} has a {kind} as state_dict, not a dict of weights '
            f'({_size(file)}); give a file that a Runner saved'
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise CheckpointError(
            f'checkpoint {path} has no {", ".join(missing)} ({_size(file)}), so '
            f'training cannot go on from it; to start anew from its weights, leave '
            f'--resume out and pass --load-from {path}'
        )
    return content


def named_checkpoint(work_dir: str | Path) -> str | None:
    """What ``last_checkpoint`` of a work folder names; None without such a file.

    In the work folder itself if there is a file of that name, which is where a folder
    that was moved or copied has it. The file need not exist.
    """
    pointer = Path(work_dir, POINTER)
    if not pointer.is_file():
        return None
    named = pointer.read_text(errors='replace').strip()
    inside = Path(work_dir, Path(named).name)
    return str(inside) if '://' not in named and inside.is_file() else named


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """The checkpoint of a work folder from which training can go on.

    The one that ``last_checkpoint`` names; if training cannot go on from that, the one
    of most iterations, with a warning. None if there is none, or no
    ``last_checkpoint``.
    """
    named = named_checkpoint(work_dir)
    if named is None:
        return None
    try:
        check_checkpoint(named, RESUME_KEYS)
        return named
    except CheckpointError as error:
        cause = error if named else f'{Path(work_dir, POINTER)} is empty'
    folders = {Path(work_dir), *([Path(named).parent] if named else [])}
    others = [path for folder in folders for path in folder.glob('*.pth')]
    # Times alone say little: those of a copied folder are the copy's.
    *_, found = max(filter(None, map(_progress, others)), default=[None])
    remedy = f'going on from {found}' if found else 'there is none to go on from'
    print_log(f'{cause}; {remedy}', logger='current', level=logging.WARNING)
    return found


def _progress(path: Path) -> tuple[int, float, str] | None:
    """Iterations, time and path of a checkpoint from which training can go on."""
    try:
        content = check_checkpoint(path, RESUME_KEYS) or {}
        done = content['meta'].get('iter')
        return done if isinstance(done, int) else -1, path.stat().st_mtime, str(path)
    except (CheckpointError, AttributeError, OSError):
        return None


def _local_file(path: str) -> Path | None:
    """The file of a path or of a web address, which is downloaded; None for others."""
    if path.startswith(('http://', 'https://')):
        return _downloaded(path)
    if '://' in path:
        return None
    file = Path(path).expanduser()
    if not file.is_file():
        cause = 'is a folder' if file.is_dir() else 'does not exist'
        raise CheckpointError(
            f'checkpoint {path} {cause}; give the path of a .pth file '
            f'(looked for at {file.absolute()})'
        )
    return file


def _downloaded(url: str) -> Path | None:
    """The file where mmengine's loader, which is torch.hub's, will find it."""
    file = Path(hub.get_dir(), 'checkpoints', Path(urlparse(url).path).name)
    if file.is_file():
        return file
    if os.environ.get('RANK', '0') != '0':
        return None  # the first process looks at it for all
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        hub.download_url_to_file(url, str(file), progress=False)
    except (URLError, OSError) as error:
        raise CheckpointError(
            f'checkpoint {url} cannot be downloaded ({error}); where there is no '
            f'network, put the file at {file}'
        ) from error
    return file


def _read(file: Path) -> Any:
    """Load ``file`` with its tensors left on disk where its format allows it."""
    # Declared anew: each load by OneDL's mmengine declares the same classes for its own
    # time, and takes the declaration back afterwards.
    allow_mmengine_checkpoints()
    try:
        # Only the zip format, which torch.save has written since 1.6, can be mapped.
        mapped = zipfile.is_zipfile(file)
        return torch.load(file, map_location='cpu', mmap=mapped)
    except Exception as error:  # whatever a broken file makes the unpickler raise
        raise CheckpointError(_unreadable(file, error)) from error


def _unreadable(file: Path, error: Exception) -> str:
    name, size = f'checkpoint {file}', _size(file)
    try:
        refused = sorted(serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # not a zip file, or one cut short: there is nothing to list
        refused = []
    if refused:
        return (
            f'{name} names {", ".join(refused)}, which the safe loader does not allow '
            f'({size}); if you trust its source, set '
            f'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1, which lets it run any code'
        )
    if isinstance(error, PermissionError):
        return f'{name} may not be read by this user; change its permissions'
    # torch adds how to switch the safe loader off, which is no remedy for damage.
    reason = re.split(r'\n|\. This file can still be loaded', str(error))[0]
    return (
        f'{name} cannot be read, it is damaged or no checkpoint at all '
        f'({size}; {reason or type(error).__name__}); copy or download it again'
    )


def _size(file: Path) -> str:
    return f'{file.stat().st_size:,} bytes'
