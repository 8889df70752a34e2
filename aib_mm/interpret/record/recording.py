"""What modules return in forward passes, collected without changing the model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn

from aib_mm.attention import attention_modules
from aib_mm.features import AttentionMaps, WithAttention

AttentionRecord = dict[str, list[tuple[AttentionMaps, ...]]]
#: Takes a module's name, its positional inputs and its output.
See = Callable[[str, tuple[Any, ...], Any], None]


def watch(modules: Mapping[str, nn.Module], see: See) -> ExitStack:
    """Call ``see`` after every forward pass of each module.

    Returns:
        A context manager: when it closes, also after an error, the modules are as they
        were.
    """
    hooks = ExitStack()
    for name, module in modules.items():
        # A partial, unlike a closure, is copied with the model that it hangs on.
        hooks.enter_context(module.register_forward_hook(partial(_tell, see, name)))
    return hooks


def _tell(see: See, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
    see(name, inputs, output)


@contextmanager
def record_maps(
    modules: Mapping[str, nn.Module],
    maps: Callable[[Any], tuple[AttentionMaps, ...]],
) -> Iterator[AttentionRecord]:
    """Collect the maps of every forward pass inside the ``with`` block, detached.

    Args:
        modules: modules to watch, by name.
        maps: function from what one of them returns to its maps, level by level.

    Yields:
        Per module, by name, a list with one entry per forward pass: the
        ``AttentionMaps`` of each level. Entries are added as passes happen.

    The modules are left as they were, also when the block raises.
    """
    record: AttentionRecord = {name: [] for name in modules}

    def keep(name: str, inputs: Any, output: Any) -> None:
        record[name].append(tuple(map(_detached, maps(output))))

    with watch(modules, keep):
        yield record


def record_attention(model: nn.Module) -> AbstractContextManager[AttentionRecord]:
    """``record_maps`` of every ``AIBAttention``, or attention of another method.

    Raises:
        ValueError: the model holds no attention.
    """
    return record_maps(attention_modules(model), _attention)


def _attention(output: WithAttention) -> tuple[AttentionMaps, ...]:
    return output.attention


def _detached(maps: AttentionMaps) -> AttentionMaps:
    return AttentionMaps._make(None if x is None else x.detach() for x in maps)
