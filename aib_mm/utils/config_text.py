"""Settings as the text of a Python config: short, in order, with comments."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_WIDTH = 88
_INDENT = ' ' * 4


class Code(str):
    """Python that stands in a config as it is, such as ``{{_base_.model.neck}}``."""


class Loop(NamedTuple):
    """A list comprehension: what each item is, and what is gone through."""

    item: Any
    loop: str


class Noted(NamedTuple):
    """A value with the comment that stands behind it."""

    value: Any
    note: str


def config_text(settings: Mapping[str, Any]) -> str:
    """Assignments of a config, a blank line between them, formatted as by ruff.

    Args:
        settings: values by name; those in them may be ``Noted``, ``Code`` or ``Loop``.
            The name '' stands for the first argument of ``dict``, which has none.
    """
    blocks = ('\n'.join(_lines(f'{k} = ', v, '', 0)) for k, v in settings.items())
    return '\n\n'.join(blocks) + '\n'


def expression(value: Any) -> str:
    """A value on one line, without comments."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, Loop):
        return f'[{expression(value.item)} {value.loop}]'
    if isinstance(value, Mapping):
        return f'dict({", ".join(k + expression(v) for k, v in _children(value))})'
    if isinstance(value, list | tuple):
        items = ', '.join(map(expression, value))
        if isinstance(value, list):
            return f'[{items}]'
        return f'({items},)' if len(value) == 1 else f'({items})'
    return repr(value)


def _lines(before: str, value: Any, after: str, depth: int) -> list[str]:
    """A value between what stands on its first and on its last line."""
    note = ''
    if isinstance(value, Noted):
        value, note = value.value, f'  # {value.note}'
    pad, children = _INDENT * depth, _children(value)
    if not _holds_notes(value):
        line = f'{pad}{before}{expression(value)}{after}'
        if len(line + note) <= _WIDTH or not children:
            return [line + note]
    opening, closing = ('dict(', ')') if isinstance(value, Mapping) else ('[', ']')
    inner = [line for key, one in children for line in _lines(key, one, ',', depth + 1)]
    if isinstance(value, Loop):
        inner = [*_lines('', value.item, '', depth + 1), f'{pad}{_INDENT}{value.loop}']
    return [f'{pad}{before}{opening}{note}', *inner, f'{pad}{closing}{after}']


def _children(value: Any) -> Sequence[tuple[str, Any]]:
    """What can stand on lines of its own, with what comes before it."""
    if isinstance(value, Mapping):
        return [(key and f'{key}=', child) for key, child in value.items()]
    return [('', child) for child in value] if isinstance(value, list | Loop) else []


def _holds_notes(value: Any) -> bool:
    return any(isinstance(v, Noted) or _holds_notes(v) for _, v in _children(value))
