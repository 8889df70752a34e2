"""Reading configs: what they hold, and which class a part names."""

from collections.abc import Iterator
from typing import Any


def walk(node: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """Everything below ``node``, itself first, with its place."""
    yield place, node
    if isinstance(node, dict):
        items: Any = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    else:
        return
    for key, child in items:
        yield from walk(child, f'{place}.{key}' if place else str(key))


def type_name(node: Any) -> str:
    """What a config's ``type`` names, without scope or module; '' if there is none."""
    kind = node.get('type', '') if isinstance(node, dict) else ''
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]
