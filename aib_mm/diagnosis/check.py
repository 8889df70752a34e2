"""Reads a config and builds its model, and says what to do where that fails."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from aib_mm import register
from aib_mm.diagnosis.configs import unreadable
from aib_mm.diagnosis.explain import explain
from aib_mm.errors import UsageError, describe
from aib_mm.hosts import config_path
from aib_mm.utils.configs import model_settings


@dataclass(frozen=True)
class ConfigResult:
    """A config and its model, or the error with its remedy, '' where none is known."""

    cfg: Config | None
    module: nn.Module | None
    error: Exception | None = None
    problem: str = ''
    remedy: str = ''


def built_config(path: str | Path) -> tuple[Config, nn.Module]:
    """A config and its model, see ``check_config``.

    Raises:
        UsageError: it does not resolve, or its model does not build; with the remedy.
    """
    found = check_config(path)
    if found.cfg is None or found.module is None:
        text = '; '.join(filter(None, (found.problem, found.remedy)))
        raise UsageError(text) from found.error
    return found.cfg, found.module


def check_config(path: str | Path) -> ConfigResult:
    """Read a config, also ``'mmpretrain::…'``, and build its model on the CPU.

    The model is built in the config's ``default_scope`` with random weights: nothing is
    loaded, and no data set is needed. Errors are returned, not raised.
    """
    try:
        cfg = Config.fromfile(config_path(path), import_custom_modules=False)
        register(cfg)
    except Exception as error:  # configs run code, so anything may come
        problem, remedy = unreadable(error)
        return ConfigResult(None, None, error, f'does not resolve: {problem}', remedy)
    if 'model' not in cfg:
        problem = 'resolves, but the config has no key model'
        remedy = 'add a model, or inherit one by _base_'
        return ConfigResult(cfg, None, KeyError('model'), problem, remedy)
    try:
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            return ConfigResult(cfg, MODELS.build(model_settings(cfg)))
    except Exception as error:
        problem, remedy = explain(error, cfg) or (describe(error), '')
        problem = f'resolves, but its model does not build: {problem}'
        return ConfigResult(cfg, None, error, problem, remedy)
