"""Users' errors: checks of values, whose messages all have the same three parts."""

import difflib
import math
import traceback
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, TypeGuard

_LENGTH = 300  # of a foreign message


class UsageError(Exception):
    """A user's mistake: shown as one line, without a traceback."""


class DataError(RuntimeError):
    """Files of a data set are missing, damaged or not what they should be.

    The message says what is wrong, where, and what to do.
    """


class InferenceError(ValueError):
    """A model whose maps cannot be laid on its images: why, and what to do."""


def choose(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``allowed``.

    Raises:
        ValueError: names the argument, the value, the choices and the nearest one.
    """
    choices = list(allowed)
    if value in choices:
        return
    hint = did_you_mean(str(value), choices)
    raise ValueError(
        f'{name} must be one of {choices}, got {value!r}'
        + (f'; {hint}' if hint else '')
    )


def check_count(name: str, value: object, minimum: int) -> None:
    """Raise unless ``value`` is an integer of at least ``minimum``.

    Raises:
        ValueError: names the argument, the value and the bound.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f'{name} must be an integer >= {minimum}, got {value!r}')


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number, and no bool."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def check_number(name: str, value: object) -> None:
    """Raise unless ``value`` is a finite number.

    Raises:
        ValueError: names the argument and the value.
    """
    if not is_number(value):
        raise ValueError(f'{name} must be a finite number, got {value!r}')


def check_weight(name: str, value: float) -> None:
    """Raise unless ``value`` can weigh a loss.

    Raises:
        ValueError: names the argument and the value.
    """
    if not is_number(value) or value < 0:
        raise ValueError(f'{name} must be finite and >= 0, got {value!r}')


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """The nearest of the choices as a question; '' if none is near."""
    near = difflib.get_close_matches(value, list(choices), n=1)
    return f'did you mean {near[0]!r}?' if near else ''


def first_few(values: Sequence[object], most: int = 20) -> str:
    """The first values of some, and how many there are if not all are shown."""
    more = [f'… ({len(values)} in all)'] if len(values) > most else []
    return ', '.join([*map(str, values[:most]), *more])


def describe(error: BaseException) -> str:
    """The error in one line; an import error with the one it started from."""
    # A KeyError prints its message in quotes.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(text).strip().splitlines() or ['']
    if not lines[0] and error.__traceback__:  # a host's assertion without a message
        lines = [traceback.extract_tb(error.__traceback__)[-1].line or '']
    described = f'{type(error).__name__}: {lines[0][:_LENGTH]}'
    cause = error.__cause__ or error.__context__
    if isinstance(error, ImportError) and cause:
        return f'{described} (from {describe(cause)})'
    return described
