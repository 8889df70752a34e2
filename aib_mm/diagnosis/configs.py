"""Reading a config, and ``--cfg-options``, with users' mistakes in one line."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.utils import import_modules_from_strings

from aib_mm.diagnosis.check import unreadable
from aib_mm.diagnosis.explain import misspelt_setting
from aib_mm.errors import UsageError, did_you_mean


class CfgOptions(DictAction):
    """mmengine's ``--cfg-options`` with a usage message for what it cannot read."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes KEY=VALUE pairs, got {value!r}')
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # brackets that do not match
            parser.error(f'{option_string}: {error}')


def load_config(path: str, options: Mapping[str, Any] | None) -> Config:
    """Read a config and merge ``--cfg-options`` into it.

    Raises:
        UsageError: the file is missing or no config, or an option does not fit it.
    """
    if not Path(path).is_file():
        folder = Path(path).absolute().parent
        names = [one.name for one in folder.glob('*')]
        hint = did_you_mean(Path(path).name, names)
        raise UsageError(
            f'config {path} does not exist; give the path of a config file '
            f'(looked for at {Path(path).absolute()})' + (f'; {hint}' if hint else '')
        )
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # configs run code, so anything may come
        problem, remedy = unreadable(error)
        raise UsageError(
            f'config {path} cannot be read: {problem}; {remedy}'
        ) from error
    misspelt = misspelt_setting(cfg)
    if misspelt:
        raise UsageError(
            f'config {path} sets {misspelt[0]!r}, which nothing reads; did you mean '
            f'{misspelt[1]!r}?'
        )
    if options:
        try:
            cfg.merge_from_dict(options)
        except (KeyError, TypeError, IndexError) as error:
            raise UsageError(
                f'--cfg-options {dict(options)} does not fit config {path}: {error}'
            ) from error
    if options and any(key.startswith('custom_imports') for key in options):
        # fromfile imported what the file names, before the options changed it.
        import_modules_from_strings(**cfg.custom_imports)
    return cfg


def require(cfg: Config, keys: Sequence[str], purpose: str) -> None:
    """See that a config has what a program needs.

    Raises:
        UsageError: a key is missing, or None.
    """
    for key in keys:
        if cfg.get(key) is None:
            raise UsageError(f'config {cfg.filename} has no {key}: {purpose}')
