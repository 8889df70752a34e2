"""Resolves a config and builds its model, and says what to do where that fails."""

import re
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from aib_mm import hosts


@dataclass(frozen=True)
class ConfigResult:
    """The model, its class and number of parameters, or the error with its remedy."""

    module: nn.Module | None = None
    model: str = ''
    parameters: int = 0
    error: Exception | None = None
    problem: str = ''
    remedy: str = ''


def check_config(path: str | Path) -> ConfigResult:
    """Resolve the config at ``path`` and build its model on the CPU.

    The model is built in the config's ``default_scope`` with random weights: nothing is
    loaded, and no data set is needed. Errors are returned, not raised.
    """
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # configs run code, so anything may come
        problem = f'does not resolve: {_describe(error)}'
        return ConfigResult(error=error, problem=problem, remedy=_resolve_remedy(error))
    try:
        return _build(cfg)
    except Exception as error:
        problem = f'resolves, but its model does not build: {_describe(error)}'
        remedy = _build_remedy(error, cfg)
        return ConfigResult(error=error, problem=problem, remedy=remedy)


def _build(cfg: Config) -> ConfigResult:
    if 'model' not in cfg:
        raise KeyError('the config has no key model')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = MODELS.build(cfg.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return ConfigResult(model, type(model).__name__, parameters)


def _describe(error: BaseException) -> str:
    """The error in one line; an import error with the one it started from."""
    # A KeyError prints its message in quotes.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(text).strip().splitlines() or ['']
    described = f'{type(error).__name__}: {lines[0]}'
    cause = error.__cause__ or error.__context__
    if isinstance(error, ImportError) and cause:
        return f'{described} (from {_describe(cause)})'
    return described


def _resolve_remedy(error: Exception) -> str:
    message = str(error)
    if isinstance(error, FileNotFoundError):
        return (
            'check the path and every _base_; the shipped configs are under configs/, '
            "and a host's are written as 'mmpretrain::resnet/resnet18_8xb32_in1k.py'"
        )
    if isinstance(error, SyntaxError):
        return (
            'repair the Python syntax of the config or of a _base_: '
            "'python -m py_compile FILE' names the line"
        )
    if 'pkg_resources' in message:
        return 'pip install "setuptools<81"'
    if 'external package' in message:
        return "write _base_ as 'mmpretrain::FOLDER/FILE.py', or as a path"
    if 'mmsegmentation' in message and hosts.is_installed('mmseg'):
        return (
            "this mmengine does not find OneDL's mmseg: write the path of the config "
            'inside mmseg/.mim/configs instead of mmseg::'
        )
    if isinstance(error, ImportError):
        return 'install the package named above, or repair custom_imports'
    if 'Duplicate key' in message:
        return 'two files of _base_ define this key: keep it in one of them'
    if isinstance(error, OSError):
        return "a config is a .py, .yml or .json file: check the name's ending"
    return 'the error comes from the config itself; --traceback shows the line'


def _build_remedy(error: Exception, cfg: Config) -> str:
    message = str(error)
    if 'no key model' in message:
        return 'add a model, or inherit one through _base_'
    scope = cfg.get('default_scope')
    if scope and not hosts.is_installed(scope):
        return (
            f'default_scope is {scope!r}, which is not installed: install or change it'
        )
    unknown = re.search(r"'?(\S+?)'? is not in the (\S+) registry", message)
    if unknown:
        return (
            f'check the spelling of {unknown.group(1)!r} and the default_scope '
            f'({scope!r}); a class of aib_mm needs '
            "custom_imports = dict(imports=['aib_mm'])"
        )
    if '"type"' in message or "'type'" in message:
        return "every part of the model is a dict with a key 'type'"
    if isinstance(error, TypeError):
        return 'compare the arguments in the config with those of the class named above'
    return 'correct the value named above; --traceback shows where it is checked'
