"""Users' errors: checks of values, whose messages all have the same three parts."""

import difflib
import math
from collections.abc import Iterable


class DataError(RuntimeError):
    """Files of a data set are missing, damaged or not what they should be.

    The message says what is wrong, where, and what to do.
    """


def choose(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``allowed``.

    Raises:
        ValueError: names the argument, the value, the choices and the nearest one.
    """
    choices = list(allowed)
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    raise ValueError(f'{name} must be one of {choices}, got {value!r}{hint}')


def check_count(name: str, value: object, minimum: int) -> None:
    """Raise unless ``value`` is an integer of at least ``minimum``.

    Raises:
        ValueError: names the argument, the value and the bound.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f'{name} must be an integer >= {minimum}, got {value!r}')


def check_weight(name: str, value: float) -> None:
    """Raise unless ``value`` can weigh a loss.

    Raises:
        ValueError: names the argument and the value.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f'{name} must be finite and >= 0, got {value!r}')
