"""Explains errors of hosts by the config, where it is certain which part raised them.

mmengine and its toolboxes raise from deep inside, where the config is not known:
``TypeError: __init__() got an unexpected keyword argument``. What was being built is in
the frames of the traceback, as mmengine's builder was given it. An error of a part at
work, which was built long before, is passed on as it is.

Places are written as ``--cfg-options`` takes them: ``model.neck.quantizer``.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any
from urllib.error import URLError

import torch.utils.data.dataloader as loaders
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import OPTIMIZERS, Registry, build_from_cfg
from mmengine.runner import BaseLoop, Runner

from aib_mm import hosts
from aib_mm.errors import DataError, UsageError, describe, did_you_mean
from aib_mm.training.checkpoint import CheckpointError
from aib_mm.training.non_finite import NonFiniteLossError
from aib_mm.training.used_data import described, why_empty
from aib_mm.utils.configs import type_name, walk

#: What the Runner reads of a config; a variable of another name is nobody's setting.
SETTINGS = frozenset(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
#: Errors whose messages name the value and the remedy already.
USERS_ERRORS = (UsageError, CheckpointError, DataError, NonFiniteLossError, URLError)

_SPLITS = ('train', 'val', 'test')
_UNEXPECTED = re.compile(r"(\w*)\.?\w+\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'(\w*)\.?__init__\(\) missing \d+ required .*arguments?: (.+)$')
_OPTIMIZER = 'optim_wrapper.optimizer'
#: Functions of data sets that have looked for samples when they raise.
_COLLECTING = ('_serialize_data', '_find_samples')
_NO_TYPE = "every part is a dict with a key 'type'"

Cause = tuple[str, str]  # the place with what is wrong there; the remedy, if known


class ConfigError(UsageError):
    """A part of a config cannot be built: its place, the value and the remedy."""


class RunError(Exception):
    """A data loader failed: the message says whose; the cause says more."""


@contextmanager
def explained(cfg: Config) -> Iterator[None]:
    """Say which place of the config an error comes from, where that is certain.

    Raises:
        ConfigError: a part cannot be built.
        RunError: samples cannot be loaded; names the split whose loop is running.
    """
    try:
        yield
    except USERS_ERRORS:
        raise
    except Exception as error:  # hosts raise whatever they like
        for kind, find in ((ConfigError, explain), (RunError, _loading)):
            cause = find(error, cfg)
            if cause is not None:
                text = '; '.join(filter(None, cause))
                raise kind(f'config {cfg.filename}: {text}') from error
        raise


def explain(error: Exception, cfg: Config) -> Cause | None:
    """The part of ``cfg`` that cannot be built; None if the error is of another kind.

    Args:
        error: error caught while building a part of the config or running it.
        cfg: config as it was given to mmengine.
    """
    # From the outermost call to the one that raised.
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    builds = [f.f_locals for f in frames if f.f_code is build_from_cfg.__code__]
    nodes = _nodes(cfg, _split(frames))
    parts = [build['cfg'] for build in builds]
    place = _place_of(parts, nodes)
    node = nodes[place]
    collecting = _dataset(frames, *_COLLECTING)
    is_empty = collecting is not None and not collecting.data_list
    if is_empty and isinstance(error, ValueError | RuntimeError):
        # mmengine joins the samples of an empty list, and mmpretrain counts files.
        return ': '.join(filter(None, (place, why_empty(collecting)))), ''
    if isinstance(error, FileNotFoundError):
        return _missing_file(error, place, node)
    if str(error) == 'None is not a callable object':
        # mmengine asks for the arguments of an optimizer before it looks for it.
        place, node = _OPTIMIZER, nodes.get(_OPTIMIZER) or {}
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:
            unknown = type_name(node) and registry.get(node['type']) is None
            return unknown_type(place, node, registry, cfg) if unknown else None
    found = _argument(error, place, node, frames[-1])
    if found or not place:
        return found
    if isinstance(error, KeyError) and 'is not in the' in str(error):
        if type_name(node) != type_name(parts[-1]):  # which the host made itself
            return f'{place}: {describe(error)}', ''
        return unknown_type(place, node, builds[-1]['registry'], cfg)
    if not type_name(parts[-1]):
        keys = [key for key, child in node.items() if child == parts[-1]]
        where = f'{place}.{" or ".join(keys)}'
        return f'{where}: {parts[-1]!r} is where a part belongs', _NO_TYPE
    read = _dataset(frames, 'load_data_list')
    if read is not None:
        return f'{place}: {described(read)} cannot be read: {describe(error)}', ''
    return _refused(error, place, node, cfg)


def _dataset(frames: Sequence[FrameType], *functions: str) -> BaseDataset | None:
    """The data set in one of whose functions the error was raised; None if in none."""
    owners = (f.f_locals.get('self') for f in frames if f.f_code.co_name in functions)
    return next((one for one in owners if isinstance(one, BaseDataset)), None)


def _split(frames: Sequence[FrameType]) -> str:
    """The split whose loop is being built or is running; '' outside of loops."""
    found = ''
    for frame in frames:
        built = re.fullmatch(r'build_(train|val|test)_loop', frame.f_code.co_name)
        loop = frame.f_locals.get('self')
        loops = vars(loop.runner) if isinstance(loop, BaseLoop) else {}
        own = [split for split in _SPLITS if loops.get(f'_{split}_loop', ()) is loop]
        found = built[1] if built else [found, *own][-1]
    return found


def _nodes(cfg: Config, split: str) -> dict[str, Any]:
    """What the Runner reads of a config, by place, without what other splits read."""
    others = set(_SPLITS) - {split} if split else ()
    read = {
        key: value
        for key, value in cfg.items()
        if key in SETTINGS and key.partition('_')[0] not in others
    }
    return dict(walk(read))


def _place_of(parts: Sequence[Any], nodes: dict[str, Any]) -> str:
    """Place of the innermost part that stands in a config, '' if none does.

    A part stands directly in one of those that are being built around it, and the
    outermost anywhere. Hosts make some parts themselves, which stand nowhere.

    Args:
        parts: what the builder was given: a part, a part of that part, and so on.
        nodes: the settings to look in.
    """
    typed = [at for at, node in nodes.items() if type_name(node)]
    holders = {  # the part that another one stands in, '' at the top
        at: max((up for up in typed if at.startswith(f'{up}.')), key=len, default='')
        for at in typed
    }
    places = ['']
    for part in parts:
        same = [at for at in typed if type_name(nodes[at]) == type_name(part)]
        among = [[at for at in same if holders[at] == up] for up in reversed(places)]
        if len(places) == 1:
            among.append(same)
        found = filter(None, (_made_of(ones, nodes, part) for ones in among))
        places += list(found)[:1]
    return places[-1]


def _made_of(places: Sequence[str], nodes: dict[str, Any], part: dict) -> str:
    """The node that a part was made of, '' if there is none or one of several.

    Hosts add to what they build, and change some: it is the fullest one that is equal
    but for additions, or the only one.
    """
    equal = [
        at
        for at in places
        if all(key in part and part[key] == value for key, value in nodes[at].items())
    ]
    if equal:
        return max(equal, key=lambda at: len(nodes[at]))
    return places[0] if len(places) == 1 else ''


def unknown_type(place: str, node: Any, registry: Registry, cfg: Config) -> Cause:
    """What to do about a type that a registry does not hold."""
    name, scope = node['type'], cfg.get('default_scope')
    if scope and not hosts.is_installed(scope):
        hint = did_you_mean(scope, hosts.HOST_PARTS) or 'install it'
        remedy = f'default_scope is {scope!r}, which is not installed: {hint}'
    else:
        names, parent = set(registry.module_dict), registry.parent
        while parent is not None:
            names, parent = names | set(parent.module_dict), parent.parent
        remedy = did_you_mean(name, names) or (
            f'check the spelling and the default_scope ({scope!r}); a class of your '
            'own needs custom_imports = dict(imports=[its module])'
        )
    problem = f'{name!r} is not in the {registry.scope}::{registry.name} registry'
    return f'{place}.type: {problem}', remedy


def _argument(error: Exception, place: str, node: Any, last: FrameType) -> Cause | None:
    """An argument too many or too few, of a part or of what mmengine builds itself."""
    unexpected, missing = _UNEXPECTED.search(str(error)), _MISSING.search(str(error))
    caller, called = last.f_locals, last.f_locals.get('obj_cls')
    kinds = {kind.__name__ for kind in getattr(called, '__mro__', ())}
    if missing and place and missing[1] in kinds:
        problem = f'{place}: {type_name(node)} needs {missing[2]}'
        return problem, f'add it to what is there ({", ".join(node)})'
    if not unexpected:
        return None
    owner, name = unexpected.groups()
    # The call was CLASS(**settings): the caller holds the settings.
    given = [v[name] for v in caller.values() if isinstance(v, dict) and name in v]
    for at, holder in walk(node, place):
        if isinstance(holder, dict) and name in holder and holder[name] in given:
            kind = {**last.f_globals, **caller}.get(owner, called)
            remedy = did_you_mean(name, arguments(kind)) or 'leave it out'
            problem = f'{owner or type_name(holder)} takes no argument {name!r}'
            return f'{at}.{name}: {problem}', remedy
    return None


def arguments(kind: Any) -> set[str]:
    """Names that a class, with what it inherits, or a function takes."""
    calls = [kind]
    if inspect.isclass(kind):
        calls = [vars(one).get('__init__') for one in kind.__mro__]
    named = (inspect.signature(c).parameters for c in calls if inspect.isfunction(c))
    return set().union(*named) - {'self', 'args', 'kwargs'}


def _missing_file(error: FileNotFoundError, place: str, node: Any) -> Cause | None:
    """A file that is not there and the setting that names it, if exactly one does."""
    path = Path(error.filename or str(error).removesuffix(' can not be found.'))
    holders = [
        at
        for at, value in walk(node, place)
        if isinstance(value, str) and value and f'/{path}'.endswith(f'/{value}')
    ]
    if len(holders) != 1:
        return (f'{place}: {describe(error)}', '') if place else None
    there = path.parent.iterdir() if path.parent.is_dir() else ()
    hint = did_you_mean(path.name, [one.name for one in there])
    return f'{holders[0]}: {describe(error)}', hint


def _refused(error: Exception, place: str, node: dict, cfg: Config) -> Cause:
    """A part that does not take the values it is given."""
    described = describe(error)
    named = {
        key: str(value)[:60]
        for key, value in node.items()
        if key != 'type' and re.search(rf'\b{key}\b', described)
    }
    if len(named) == 1 and next(iter(named.values())) in described:
        place = f'{place}.{next(iter(named))}'
    shown = ', '.join(f'{key}={value}' for key, value in named.items())
    problem = f'{place}: {type_name(node)}({shown}) does not build: {described}'
    return problem, _no_tuples(cfg, described)


def _loading(error: Exception, cfg: Config) -> Cause | None:
    """An error that came out of the data loader of a loop."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    split = _split(frames)
    if not split or all(f.f_code.co_filename != loaders.__file__ for f in frames):
        return None
    described = describe(error)
    if 'in DataLoader worker process' in described:  # whose traceback is the text
        described = str(error).strip().splitlines()[-1][:300]
    return f'{split}_dataloader: {described}', _no_tuples(cfg, described)


def _no_tuples(cfg: Config, described: str) -> str:
    """Advice on an error of a JSON or YAML config that names a tuple or a list."""
    suffix = Path(cfg.filename or '.py').suffix
    if suffix == '.py' or not re.search(r"tuple|'list'", described):
        return ''
    return f'{suffix} files have lists where Python has tuples: write the config in .py'
