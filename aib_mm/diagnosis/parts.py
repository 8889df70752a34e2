"""Parts of a config beside its model: types, arguments, transforms and optimizer.

What needs no data is looked at; hooks, metrics and data sets are not made.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    DefaultScope,
    Registry,
)
from torch import nn
from torch.utils.data import DataLoader

from aib_mm.diagnosis.configs import misspelt_setting
from aib_mm.diagnosis.explain import Cause, arguments, explain, unknown_type
from aib_mm.diagnosis.step import quiet_log
from aib_mm.errors import describe, did_you_mean
from aib_mm.training.start import LOADERS
from aib_mm.utils.configs import type_name, walk

_OF_LOADERS = {*inspect.signature(DataLoader).parameters, 'num_batch_per_epoch'}
#: What mmengine takes out of a part's settings before it is made.
_TAKEN_OUT = {'type', '_scope_', 'priority', 'convert_to_iter_based'}
_LISTS: dict[str, Registry] = {
    'custom_hooks': HOOKS,
    'default_hooks': HOOKS,
    'param_scheduler': PARAM_SCHEDULERS,
    'val_evaluator': METRICS,
    'test_evaluator': METRICS,
}


def part_problems(cfg: Config, model: nn.Module) -> Iterator[Cause]:
    """What of a config cannot be built, with its place, and the remedy, if known.

    Args:
        cfg: config, as it was read.
        model: its model, which the optimizer is built for.
    """
    misspelt = misspelt_setting(cfg)
    if misspelt:
        name, meant = misspelt
        yield f'it sets {name!r}, which nothing reads', f'did you mean {meant!r}?'
    for key in LOADERS:
        for name in set(cfg.get(key) or ()) - _OF_LOADERS:
            remedy = did_you_mean(name, _OF_LOADERS) or 'leave it out'
            yield f'{key}.{name}: a loader takes no argument {name!r}', remedy
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        for place, node, registry in _parts(cfg):
            cause = _mistake(place, node, registry, cfg)
            if cause:
                yield cause
        # A strategy builds its own.
        if cfg.get('optim_wrapper') is not None and 'strategy' not in cfg:
            try:
                with quiet_log():  # some tell the rate of every parameter
                    build_optim_wrapper(model, cfg.optim_wrapper)
            except Exception as error:
                problem = f'optim_wrapper: {describe(error)}'
                yield explain(error, cfg) or (problem, '')


def _parts(cfg: Config) -> Iterator[tuple[str, dict, Registry]]:
    """Parts that name their type, and pipelines' steps, with place and registry."""
    for key, registry in _LISTS.items():
        for place, node in walk(cfg.get(key) or (), key):
            if type_name(node) and place.count('.') <= 1:
                yield place, node, registry
    for key in LOADERS:
        for place, node in walk(cfg.get(key) or {}, key):
            *above, last = place.split('.')
            if above[-1:] == ['pipeline'] and last.isdigit():
                yield place, node, TRANSFORMS
            elif last == 'sampler' and type_name(node):
                yield place, node, DATA_SAMPLERS
            elif 'pipeline' not in above and type_name(node):
                is_set = last == 'dataset' or 'datasets' in above
                if is_set and last != 'metainfo':
                    yield place, node, DATASETS
    train = cfg.get('train_cfg')
    if isinstance(train, dict):
        by_epoch = train.get('by_epoch', True)
        kind = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
        settings = {key: value for key, value in train.items() if key != 'by_epoch'}
        yield 'train_cfg', {'type': kind, **settings}, LOOPS


def _mistake(place: str, node: dict, registry: Registry, cfg: Config) -> Cause | None:
    """An unknown type, or an argument that it certainly does not take."""
    if registry is TRANSFORMS:  # needs no data to be made
        try:
            TRANSFORMS.build(node)
        except Exception as error:  # hosts raise whatever they like
            return explain(error, cfg) or (f'{place}: {describe(error)}', '')
        return None
    kind = node['type']
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(None) as own:
            kind = own.get(kind)
            if kind is None:
                return unknown_type(place, node, own, cfg)
    wrong = [name for name in node if name not in _TAKEN_OUT | arguments(kind)]
    if not wrong or _takes_any(kind):
        return None
    problem = f'{type_name(node)} takes no argument {wrong[0]!r}'
    remedy = did_you_mean(wrong[0], arguments(kind)) or 'leave it out'
    return f'{place}.{wrong[0]}: {problem}', remedy


def _takes_any(kind: Any) -> bool:
    """Whether a class hands arguments on to where they cannot be known."""
    for one in getattr(kind, '__mro__', ()):
        init = vars(one).get('__init__')
        if inspect.isfunction(init):
            given = inspect.signature(init).parameters.values()
            if all(each.kind is not each.VAR_KEYWORD for each in given):
                return False
    return True
