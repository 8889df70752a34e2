"""Reading a config, and ``--cfg-options``, with users' mistakes in one line."""

import argparse
import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from aib_mm import register
from aib_mm.diagnosis.explain import SETTINGS
from aib_mm.errors import UsageError, describe, did_you_mean
from aib_mm.hosts import config_path

# With these, none of the toolboxes' 2,600 config files is refused.
_ALL_BUT, _LONG = 0.88, 7
#: Error of reading a config, words of its message, remedy; the first that fits counts.
_REMEDIES: tuple[tuple[type[Exception], str, str], ...] = (
    (
        FileNotFoundError,
        '',
        'check the path and every _base_; the shipped configs are under configs/, and '
        "a host's are written as 'mmpretrain::resnet/resnet18_8xb32_in1k.py'",
    ),
    (SyntaxError, '', "'python -m py_compile FILE' names the line to repair"),
    (Exception, 'pkg_resources', 'pip install "setuptools<81"'),
    (Exception, 'external package', "write _base_ as 'mmpretrain::FOLDER/FILE.py'"),
    (
        ImportError,
        'mmsegmentation',
        "install mmsegmentation; OneDL's is not found by this name: write the path of "
        'the config inside mmseg/.mim/configs instead of mmseg::',
    ),
    (ImportError, '', 'install the package named above, or repair custom_imports'),
    (
        Exception,
        'Duplicate key',
        'two files of _base_ define this key: keep it in one of them',
    ),
    (
        RuntimeError,
        'inheritance chain must match',
        'a text config and one with read_base cannot inherit from each other: write '
        "both in one style (add writes text; by hand: neck=dict(type='AIBAttention'))",
    ),
    (OSError, '', "a config is a .py, .yml or .json file: check the name's ending"),
    (Exception, '', 'the error is in the config itself; --traceback shows where'),
)


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """What ``--cfg-options`` takes, ``KEY=VALUE`` texts, as mmengine reads them.

    Raises:
        UsageError: a text is no such pair, or its brackets do not match.
    """
    for text in texts:
        if '=' not in text:
            raise UsageError(f'--cfg-options takes KEY=VALUE pairs, got {text!r}')
    found = argparse.Namespace()
    try:
        DictAction([], 'options')(argparse.ArgumentParser(), found, texts)
    except AssertionError as error:  # brackets that do not match
        raise UsageError(f'--cfg-options: {error}') from error
    return found.options


def read_config(path: str) -> Config:
    """Read a config as it stands; what it needs is not registered.

    Args:
        path: a config file, or ``'mmpretrain::FOLDER/FILE.py'``.

    Raises:
        UsageError: the file is missing or no config.
    """
    try:
        path = str(config_path(path))
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error
    if not Path(path).is_file():
        folder = Path(path).absolute().parent
        names = [one.name for one in folder.glob('*')]
        hint = did_you_mean(Path(path).name, names)
        raise UsageError(
            f'config {path} does not exist; give the path of a config file '
            f'(looked for at {Path(path).absolute()})' + (f'; {hint}' if hint else '')
        )
    with _reading(path):
        cfg = Config.fromfile(path, import_custom_modules=False)
    misspelt = misspelt_setting(cfg)
    if misspelt:
        raise UsageError(
            f'config {path} sets {misspelt[0]!r}, which nothing reads; did you mean '
            f'{misspelt[1]!r}?'
        )
    return cfg


def load_config(path: str, options: Mapping[str, Any] | Sequence[str] | None) -> Config:
    """Read a config, merge ``--cfg-options`` into it, register what it needs.

    Args:
        path: a config file, or ``'mmpretrain::FOLDER/FILE.py'``.
        options: ``KEY=VALUE`` texts, or values by their keys.

    Raises:
        UsageError: the file is missing or no config, or an option does not fit it.
    """
    if not isinstance(options, Mapping):
        options = parse_options(options or ())
    cfg = read_config(path)
    merge_options(cfg, options)
    with _reading(path):
        register(cfg)
    return cfg


def merge_options(cfg: Config, options: Mapping[str, Any], name: str = '') -> None:
    """Merge into a config what ``--cfg-options`` said, or what ``name`` stands for.

    Raises:
        UsageError: an option does not fit.
    """
    try:
        cfg.merge_from_dict(dict(options))
    except (KeyError, TypeError, IndexError) as error:
        name = name or f'--cfg-options {dict(options)}'
        raise UsageError(
            f'{name} does not fit config {cfg.filename}: {error}'
        ) from error


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # configs run code, so anything may come
        problem, remedy = unreadable(error)
        raise UsageError(
            f'config {path} cannot be read: {problem}; {remedy}'
        ) from error


def unreadable(error: Exception) -> tuple[str, str]:
    """Problem and remedy of a config that raised ``error`` when it was read."""
    remedies = (
        remedy
        for kind, words, remedy in _REMEDIES
        if isinstance(error, kind) and words in str(error)
    )
    return describe(error), next(remedies)


def misspelt_setting(cfg: Config) -> tuple[str, str] | None:
    """A name at the top that is all but one of the Runner's, which nothing reads.

    mmengine lets a config hold names of its own, so that a slip of the pen there is
    silent: the setting of the base stays.
    """
    for key in cfg:
        near = difflib.get_close_matches(key, SETTINGS, n=1, cutoff=_ALL_BUT)
        if key not in SETTINGS and near and len(key) >= _LONG:
            return key, near[0]
    return None
