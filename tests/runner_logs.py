"""Loggers of Runners that a test runs while its output is captured."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger


@contextmanager
def own_loggers() -> Iterator[None]:
    """Afterwards there are the loggers of before, and one at least.

    Enter before ``capsys``: handlers hold its streams, which are closed after the test.
    """
    MMLogger.get_current_instance()
    before = dict(MMLogger._instance_dict)
    try:
        yield
    finally:
        for name, logger in MMLogger._instance_dict.items():
            if name not in before:
                logger.handlers.clear()
        MMLogger._instance_dict.clear()
        MMLogger._instance_dict.update(before)
