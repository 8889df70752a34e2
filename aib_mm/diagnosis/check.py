"""Resolves a config and builds its model, and says what to do where that fails."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from aib_mm import hosts
from aib_mm.diagnosis.explain import explain
from aib_mm.errors import describe


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
        described, remedy = unreadable(error)
        return ConfigResult(
            error=error, problem=f'does not resolve: {described}', remedy=remedy
        )
    try:
        return _build(cfg)
    except Exception as error:
        cause = explain(error, cfg)
        problem = f'{cause.place}: {cause.problem}' if cause else describe(error)
        return ConfigResult(
            error=error,
            problem=f'resolves, but its model does not build: {problem}',
            remedy=cause.remedy if cause else 'add a model, or inherit one by _base_',
        )


def _build(cfg: Config) -> ConfigResult:
    if 'model' not in cfg:
        raise KeyError('the config has no key model')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = MODELS.build(cfg.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return ConfigResult(model, type(model).__name__, parameters)


def unreadable(error: Exception) -> tuple[str, str]:
    """Problem and remedy of a config that raised ``error`` when it was read."""
    return describe(error), _resolve_remedy(error)


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
