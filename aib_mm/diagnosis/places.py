"""Which place of a config an error comes from.

Places are written as ``--cfg-options`` takes them: ``model.neck.quantizer``,
``train_dataloader.dataset.pipeline.2``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import build_from_cfg
from torch import nn

from aib_mm.utils.configs import type_name, walk


@dataclass(frozen=True)
class Cause:
    """What to tell of an error.

    Attributes:
        place: in the config.
        problem: with the value.
        remedy: with the nearest valid value, where there is one.
        certain: the config is to blame; else a traceback may still be of use.
    """

    place: str
    problem: str
    remedy: str
    certain: bool = True

    def __str__(self) -> str:
        return f'{self.place}: {self.problem}; {self.remedy}'


def node_at(cfg: Config, place: str) -> Any:
    """What is at a place."""
    node: Any = cfg
    for key in place.split('.'):
        node = node[int(key)] if isinstance(node, list | tuple) else node[key]
    return node


def deepest(cfg: Config, place: str) -> str:
    """The longest head of a module's name, such as ``model.neck.conv``, in a config."""
    keys = place.split('.')
    for length in range(len(keys), 0, -1):
        head = '.'.join(keys[:length])
        try:
            node = node_at(cfg, head)
        except (KeyError, IndexError, ValueError, TypeError):
            continue
        if isinstance(node, dict):
            return head
    return ''


def frames_of(traceback: TracebackType | None) -> list[FrameType]:
    """From the outermost call to the one that raised."""
    frames = []
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def builds_of(frames: Sequence[FrameType]) -> list[dict[str, Any]]:
    """Local names of mmengine's builder, one entry a part: the whole, its part, …"""
    return [
        frame.f_locals for frame in frames if frame.f_code is build_from_cfg.__code__
    ]


def place_of_build(cfg: Config, parts: Sequence[Any]) -> str:
    """Where the innermost part that a config has stands in it, '' if none does.

    Args:
        cfg: the config.
        parts: what the builder was given: a part, a part of that part, and so on. Hosts
            add to them and take away, so the most similar one of the type is meant.
    """
    place = ''
    for part in parts:
        if not isinstance(part, dict):
            return _holding(cfg, place, part) if place else ''
        inside = _most_similar(walk(node_at(cfg, place), place) if place else (), part)
        place = inside or _most_similar(walk(dict(cfg)), part) or place
    return place


def _holding(cfg: Config, place: str, value: Any) -> str:
    """The first key of a place with a value that is no part."""
    keys = [key for key, child in node_at(cfg, place).items() if child == value]
    return f'{place}.{keys[0]}' if keys else place


def _most_similar(nodes: Any, part: Any) -> str:
    found = [
        (_likeness(node, part), place)
        for place, node in nodes
        if place and isinstance(node, dict) and type_name(node) == type_name(part)
    ]
    if type_name(part) == '':
        found = [(1, place) for likeness, place in found if likeness == len(part)]
    return max(found, key=lambda one: one[0], default=(0, ''))[1]


def _likeness(node: dict, part: Any) -> int:
    equal = sum(key in part and part[key] == value for key, value in node.items())
    return equal - sum(key not in part for key in node)


def module_in_use(frames: Sequence[FrameType]) -> tuple[str, nn.Module] | None:
    """Name, as ``model.neck``, of the module whose call raised, and the module."""
    owners = [frame.f_locals.get('self') for frame in frames]
    modules = [
        owner
        for owner in owners
        if isinstance(owner, nn.Module) and not is_model_wrapper(owner)
    ]
    if not modules:
        return None
    names = {module: name for name, module in modules[0].named_modules()}
    inner = next(module for module in reversed(modules) if module in names)
    return f'model.{names[inner]}'.rstrip('.'), inner


def part_in_use(cfg: Config, frames: Sequence[FrameType]) -> str:
    """Place of the innermost object in the calls whose class the config names."""
    places = {type_name(node): place for place, node in walk(dict(cfg))}
    places.pop('', None)
    for frame in reversed(frames):
        owner = frame.f_locals.get('self')
        if type(owner).__name__ in places:
            return places[type(owner).__name__]
    return ''
