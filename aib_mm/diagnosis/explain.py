"""Explains errors of hosts by the config: the place, the value, the nearest valid one.

mmengine and its toolboxes raise from deep inside, where the config is not known:
``TypeError: __init__() got an unexpected keyword argument``. What was being built, or
was at work, is in the frames of the traceback.
"""

import difflib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS, Registry
from mmengine.runner import Runner

from aib_mm import hosts
from aib_mm.config_at_work import loading, model_at_work, part_at_work
from aib_mm.diagnosis.places import Cause, builds_of, frames_of, node_at, place_of_build
from aib_mm.errors import describe, did_you_mean
from aib_mm.utils.configs import type_name, walk

_UNEXPECTED = re.compile(r"(\w+)?\.?\w+\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'(\w+)?\.?\w+\(\) missing \d+ required .*arguments?: (.+)$')
# With these, none of the toolboxes' 2,600 config files is refused.
_ALL_BUT, _LONG = 0.88, 7
_SETTINGS = tuple(set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'})


def explain(error: Exception, cfg: Config) -> Cause | None:
    """The place of ``cfg`` that an error comes from; None if none can be named.

    Args:
        error: caught from building a part of the config, or from running it.
        cfg: as it was given to mmengine.
    """
    frames = frames_of(error.__traceback__)
    for find in (_building, _settings, model_at_work, loading, part_at_work):
        cause = find(error, cfg, frames)
        if cause is not None:
            return cause
    return None


def misspelt_setting(cfg: Config) -> tuple[str, str] | None:
    """A name at the top that is all but one of the Runner's, which nothing reads.

    mmengine lets a config hold names of its own, so that a slip of the pen there is
    silent: the setting of the base stays.
    """
    for key in cfg:
        near = difflib.get_close_matches(key, _SETTINGS, n=1, cutoff=_ALL_BUT)
        if key not in _SETTINGS and near and len(key) >= _LONG:
            return key, near[0]
    return None


def _building(
    error: Exception, cfg: Config, frames: Sequence[FrameType]
) -> Cause | None:
    builds = builds_of(frames)
    place = place_of_build(cfg, [build['cfg'] for build in builds])
    if not place:
        return None
    build = builds[-1]
    if isinstance(error, KeyError) and 'is not in the' in str(error):
        name = str(build['cfg'].get('type'))
        return _unknown_type(place, name, build['registry'], cfg)
    argument = _argument(error, cfg, frames, place, build.get('obj_cls'))
    return argument or _refused(error, cfg, frames, place)


def _unknown_type(place: str, name: str, registry: Registry, cfg: Config) -> Cause:
    scope = cfg.get('default_scope')
    if scope and not hosts.is_installed(scope):
        remedy = f'default_scope is {scope!r}, which is not installed: install it'
    else:
        names = {name for one in _family(registry) for name in one.module_dict}
        remedy = did_you_mean(name, names) or (
            f'check the spelling and the default_scope ({scope!r}); a class of your '
            'own needs custom_imports = dict(imports=[its module])'
        )
    problem = f'{name!r} is not in the {registry.scope}::{registry.name} registry'
    return Cause(f'{place}.type', problem, remedy)


def _family(registry: Registry) -> list[Registry]:
    """The registries that a name without a scope is looked up in."""
    found = [registry]
    while found[-1].parent is not None:
        found.append(found[-1].parent)
    return found


def _argument(
    error: Exception,
    cfg: Config,
    frames: Sequence[FrameType],
    place: str = '',
    kind: Any = None,
) -> Cause | None:
    """An argument too many or too few, of a part or of what mmengine builds itself."""
    if not isinstance(error, TypeError):
        return None
    unexpected = _UNEXPECTED.search(str(error))
    if unexpected:
        owner, name = unexpected.groups()
        holders = [
            at
            for at, node in walk(dict(cfg))
            if isinstance(node, dict) and name in node and at.startswith(place)
        ]
        if not holders:
            return None
        last = frames[-1]
        called = {**last.f_globals, **last.f_locals}.get(owner)
        names = {*_arguments(kind), *_arguments(called)}
        problem = (
            f'{owner or type_name(node_at(cfg, place))} takes no argument {name!r}'
        )
        remedy = did_you_mean(name, names) or 'leave it out'
        return Cause(f'{holders[0]}.{name}', problem, remedy)
    missing = _MISSING.search(str(error))
    if missing and place:
        problem = f'{type_name(node_at(cfg, place))} needs {missing.group(2)}'
        given = ', '.join(node_at(cfg, place))
        return Cause(place, problem, f'add it to what is there ({given})')
    return None


def _arguments(kind: Any) -> set[str]:
    """Names that a class, with what it inherits, or a function takes."""
    calls = [kind]
    if inspect.isclass(kind):
        calls = [vars(one).get('__init__') for one in kind.__mro__]
    names: set[str] = set()
    for call in filter(callable, calls):
        try:
            names |= set(inspect.signature(call).parameters)
        except (TypeError, ValueError):  # written in C, or wrapped
            continue
    return names - {'self', 'args', 'kwargs'}


def _refused(
    error: Exception, cfg: Config, frames: Sequence[FrameType], place: str
) -> Cause:
    """A part that does not take the values it is given."""
    described = describe(error, frames)
    if isinstance(error, FileNotFoundError) and error.filename:
        place = _holder_of_path(cfg, place, str(error.filename))
        return Cause(place, described, _nearest_path(Path(error.filename)))
    node = node_at(cfg, place)
    if not isinstance(node, dict):
        problem = f'{node!r} is where a part belongs'
        return Cause(place, problem, "every part is a dict with a key 'type'")
    named = {
        key: value
        for key, value in node.items()
        if key != 'type' and re.search(rf'\b{key}\b', described)
    }
    shown = ', '.join(f'{key}={str(value)[:60]!s}' for key, value in named.items())
    problem = f'{type_name(node)}({shown}) does not build: {described}'
    if '"type"' in described:
        return Cause(place, problem, "every part is a dict with a key 'type'")
    where = f'{place}.{next(iter(named))}' if len(named) == 1 else place
    return Cause(where, problem, 'correct the value; --traceback shows the check')


def _holder_of_path(cfg: Config, place: str, path: str) -> str:
    """The setting that a path was made of, the last part of it if of several."""
    found = [
        (len(value), at)
        for at, value in walk(node_at(cfg, place), place)
        if isinstance(value, str) and value and path.endswith(value)
    ]
    found = found or [
        (-len(value), at)
        for at, value in walk(node_at(cfg, place), place)
        if isinstance(value, str) and value and value in path
    ]
    return max(found, default=(0, place))[1]


def _nearest_path(path: Path) -> str:
    """What is there instead of a file that is not."""
    while not path.parent.exists():
        path = path.parent
    there = sorted(one.name for one in path.parent.iterdir())
    hint = did_you_mean(path.name, there) or f'{path.parent} holds {len(there)} others'
    return f'{path} is not there: {hint}'


def _settings(
    error: Exception, cfg: Config, frames: Sequence[FrameType]
) -> Cause | None:
    """What mmengine does not build by the registry, or only after a look at it."""
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    kind = optimizer.get('type', '')
    # Its constructor asks for the arguments of what it did not find.
    if isinstance(kind, str) and 'None is not a callable' in str(error):
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:
            if registry.get(kind) is None:
                return _unknown_type('optim_wrapper.optimizer', kind, registry, cfg)
    return _argument(error, cfg, frames)
