"""A checkpoint's keys against a model's."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from aib_mm.training.checkpoint import CheckpointError, check_checkpoint

_SHOWN_ENTRIES = 8


class Mismatch(NamedTuple):
    """A key of both with different shapes."""

    key: str
    checkpoint: tuple[int, ...]
    model: tuple[int, ...]


@dataclass(frozen=True)
class KeyReport:
    """What differs between a model and a state dict.

    Attributes:
        new: keys of the model that its classes declare as their own additions, so that
            a checkpoint of the host's model lacks them.
        missing: other keys of the model that the state dict lacks.
        unexpected: keys of the state dict that the model lacks.
        mismatched: keys of both, with both shapes, but for those of the predictor.
        predictor: mismatched keys that the number of classes explains.
    """

    new: Sequence[str]
    missing: Sequence[str]
    unexpected: Sequence[str]
    mismatched: Sequence[Mismatch]
    predictor: Sequence[Mismatch] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether only declared keys differ, and a predictor of other classes."""
        return not (self.missing or self.unexpected or self.mismatched)


def compare_keys(model: nn.Module, state_dict: Mapping[str, Any]) -> KeyReport:
    """Compare as mmengine's loader would load, with what the model's classes rename.

    A class declares in ``vanilla_lacks`` the names of its children that a checkpoint
    without attention lacks. A child is new where the state dict has none of its keys;
    where it has some, the others are missing.

    Args:
        model: model, not changed; the loading is tried on a copy.
        state_dict: weights by name, not changed; a prefix ``module.`` is dropped.
    """
    model = copy.deepcopy(model)
    found = _as_loaded(model, state_dict)
    wanted = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    # Batches that a BatchNorm has seen: mmengine's loader does not ask for them either.
    absent = [
        key
        for key in wanted
        if key not in found and not key.endswith('num_batches_tracked')
    ]
    declared = [
        f'{name}.{child}' if name else child
        for name, module in model.named_modules(remove_duplicate=False)
        for child in getattr(type(module), 'vanilla_lacks', ())
    ]
    additions = [
        child for child in declared if not any(_is_of(key, child) for key in found)
    ]
    new = [key for key in absent if any(_is_of(key, child) for child in additions)]
    mismatched = [
        Mismatch(key, tuple(found[key].shape), tuple(value.shape))
        for key, value in wanted.items()
        if key in found and found[key].shape != value.shape
    ]
    predictor = _of_other_classes(model, mismatched)
    return KeyReport(
        new=new,
        missing=[key for key in absent if key not in new],
        unexpected=[key for key in found if key not in wanted],
        mismatched=[one for one in mismatched if one not in predictor],
        predictor=predictor,
    )


def read_state_dict(path: str) -> Mapping[str, Tensor]:
    """The weights in a checkpoint, as mmengine's loader finds them.

    Raises:
        CheckpointError: an unusable file or address, or one without weights.
    """
    check_checkpoint(path)
    try:
        content = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except Exception as error:  # an address can fail in many ways
        reason = str(error).partition('\n')[0]
        raise CheckpointError(f'checkpoint {path} cannot be read: {reason}') from error
    state_dict = content.get('state_dict', content)
    if not any(isinstance(value, Tensor) for value in state_dict.values()):
        entries = ', '.join(map(str, list(state_dict)[:_SHOWN_ENTRIES]))
        raise CheckpointError(
            f'checkpoint {path} has no weights under state_dict or at its top, which '
            f'holds: {entries or "nothing"}; give a checkpoint of mmengine'
        )
    return state_dict


def _as_loaded(model: nn.Module, state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights under the names that the model's classes look for.

    The classes rename while they load, so the weights are loaded into ``model``.
    """
    found: dict[str, Tensor] = {
        re.sub(r'^module\.', '', key): value
        for key, value in state_dict.items()
        if isinstance(value, Tensor)
    }
    versions = getattr(state_dict, '_metadata', {})
    for name, module in model.named_modules(remove_duplicate=False):
        prefix = f'{name}.' if name else ''
        version = versions.get(name, {})
        module._load_from_state_dict(found, prefix, version, True, [], [], [])
    return found


def _of_other_classes(
    model: nn.Module, mismatched: Sequence[Mismatch]
) -> list[Mismatch]:
    """Layers whose outputs are counted by classes, and by as many in all of a head.

    The head knows its classes as ``num_classes``. A class-agnostic one, such as an RPN
    beside others, has one class whatever the data.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    layers = nn.Linear | nn.Conv2d
    known = {name: getattr(m, 'num_classes', None) for name, m in modules.items()}
    counts = {name: n for name, n in known.items() if isinstance(n, int) and n > 0}
    fewest = 2 if max(counts.values(), default=1) > 1 else 1
    by_head: dict[str, list[Mismatch]] = {}
    for one in mismatched:
        heads = [name for name in counts if _is_of(one.key, name)]
        by_head.setdefault(max(heads, key=len, default=''), []).append(one)
    return [
        one
        for head, ones in by_head.items()
        if counts.get(head, 0) >= fewest
        and all(isinstance(modules[o.key.rpartition('.')[0]], layers) for o in ones)
        and set.intersection(*(_classes_of(o, counts[head]) for o in ones))
        for one in ones
    ]


def _classes_of(one: Mismatch, num_classes: int) -> set[int]:
    """The numbers of classes that a checkpoint's layer can have been made for.

    A layer has some outputs for each class: those of the data, a background, and in
    YOLO's box and objectness besides.
    """
    if one.checkpoint[1:] != one.model[1:]:  # another number of inputs
        return set()
    found = set()
    for others in (0, 1, 5):
        each, rest = divmod(one.model[0], num_classes + others)
        if each and not rest and not one.checkpoint[0] % each:
            found.add(one.checkpoint[0] // each - others)
    return {classes for classes in found if classes > 0}


def _is_of(key: str, child: str) -> bool:
    return key == child or key.startswith(f'{child}.')
