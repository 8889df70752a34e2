"""A part that is on the disk: its meta file, whether it is the one asked for, whole."""

import json
from pathlib import Path
from typing import Any

from aib_mm.digitscenes.files import checksums
from aib_mm.digitscenes.spec import NAME, PARTS, DigitScenesSpec
from aib_mm.utils.files import file_sha256

META = 'meta.json'


class SetError(ValueError):
    """A folder does not hold the complete set that was asked for."""


def load_meta(folder: str | Path) -> dict[str, Any]:
    """The meta file of a part, for instance of ``data/digitscenes/classification``.

    Raises:
        FileNotFoundError: the folder or its meta file is missing.
        SetError: the meta file is not one of DigitScenes.
    """
    path = Path(folder) / META
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: {how_to_make(folder)}')
    try:
        meta = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise SetError(f'{path} is not JSON ({error}): move {folder} away') from error
    if not isinstance(meta, dict) or meta.get('name') != NAME:
        raise SetError(f'{path} does not describe a {NAME} set: move {folder} away')
    return meta


def how_to_make(folder: str | Path) -> str:
    """The command that makes the set of which a part is at ``folder``."""
    folder = Path(folder)
    command = f'make it with: python tools/digit_scenes.py --out {folder.parent}'
    return f'{command} --parts {folder.name}' if folder.name in PARTS else command


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    (folder / META).write_text(json.dumps(meta, indent=2) + '\n', encoding='utf-8')


def is_complete(folder: Path, part: str, spec: DigitScenesSpec) -> bool:
    """Whether a part of this version and specification is at ``folder``.

    Raises:
        SetError: a set of other parameters, or something else, is there.
    """
    if not check_replaceable(folder):
        return False
    meta = load_meta(folder)
    found = meta | meta.get('parameters', {})
    expected = spec.identity(part)
    expected |= expected.pop('parameters')
    differences = [
        f'{key} is {found.get(key)!r}, not {value!r}'
        for key, value in expected.items()
        if found.get(key) != value
    ]
    if differences:
        raise SetError(
            f'{folder} holds another set: {"; ".join(differences)}. Give --force to '
            'replace it, or another folder with --out'
        )
    return True


def verify(folder: str | Path) -> dict[str, Any]:
    """Recompute the checksum of a part and return its meta file.

    Raises:
        FileNotFoundError: there is no set at ``folder``.
        SetError: a file is missing, changed or was added.
    """
    meta = load_meta(folder)
    count, checksum = checksum_of(Path(folder))
    if (count, checksum) != (meta.get('files'), meta.get('sha256')):
        raise SetError(
            f'{folder} is damaged: {count} files with checksum {checksum}, expected '
            f'{meta.get("files")} with {meta.get("sha256")}. Make it again: add --force'
        )
    return meta


def check_replaceable(folder: Path) -> bool:
    """Whether a set is at ``folder``; False where there is nothing.

    Raises:
        SetError: something else is there, which nobody may remove.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not (folder / META).is_file():
        raise SetError(
            f'{folder} exists and is no {NAME} set (it has no {META}): move it away or '
            'give another folder with --out'
        )
    load_meta(folder)
    return True


def checksum_of(folder: Path) -> tuple[int, str]:
    """Number of files in a part's folder, its meta file apart, and their checksum."""
    paths = [p for p in folder.rglob('*') if p.is_file() and p != folder / META]
    digests = {}
    for path in paths:
        digest = file_sha256(path)
        digests[path.relative_to(folder).as_posix()] = (digest, digest)
    return len(digests), checksums(digests)[0]
