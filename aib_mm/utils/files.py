"""Files that are whole or as they were before, and JSON that every reader takes."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

#: End of the names under which files are written.
PART = '.part'
_LONGEST = 200  # bytes of a name; file systems take 255, with what others append


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a file in full, or leave what was there before.

    It is written beside its place, brought to the disk and renamed. A killed process
    leaves at most a file whose name ends in ``PART``.

    Args:
        path: the file; its folder is made where there is none.
        content: text is written as UTF-8; what that does not have, such as bytes of a
            file's name in another encoding, is written as an escape.

    Raises:
        OSError: it cannot be written; the disk is full, for instance.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes may write the same file.
    part = path.with_name(f'{path.name}.{os.getpid()}{PART}')
    try:
        with part.open('wb') as file:
            if isinstance(content, str):
                content = content.encode(errors='backslashreplace')
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name without bytes
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def file_name(name: str) -> str:
    """A name that file systems take: a long one is cut, and ends in its checksum.

    Args:
        name: name without separators.
    """
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST:
        return name
    mark = '~' + hashlib.sha256(raw).hexdigest()[:12]
    return raw[: _LONGEST - len(mark)].decode(errors='ignore') + mark


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, which need not fit into memory."""
    found = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def json_text(content: Any) -> str:
    """Indented JSON; numbers that are not finite, which it does not have, are null.

    Args:
        content: plain containers; numbers and arrays may be numpy's or torch's.
    """
    return json.dumps(finite(content), indent=2, allow_nan=False) + '\n'


def finite(content: Any) -> Any:
    """Plain containers with None for every number that is not finite."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    if hasattr(content, 'tolist'):  # numpy's and torch's
        return finite(content.tolist())
    if isinstance(content, Real) and not math.isfinite(content):
        return None
    return content
