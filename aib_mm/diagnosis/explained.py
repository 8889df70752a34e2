"""Errors of building and running a config, with the place they come from."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from mmengine.config import Config

from aib_mm.diagnosis.explain import explain
from aib_mm.errors import DataError, UsageError
from aib_mm.training.checkpoint import CheckpointError
from aib_mm.training.non_finite import NonFiniteLossError


class ConfigError(UsageError):
    """A part of a config cannot be built: its place, the value and the remedy."""


class RunError(Exception):
    """A part of a config failed at work: its place; the cause says more."""


#: Errors whose messages name the value and the remedy already.
USERS_ERRORS = (
    UsageError,
    CheckpointError,
    DataError,
    NonFiniteLossError,
    RunError,
    URLError,
)


@contextmanager
def explained(cfg: Config) -> Iterator[None]:
    """Say of an error which place of the config it comes from.

    Raises:
        ConfigError: a part cannot be built.
        RunError: a module of the model cannot work on what it gets.
    """
    try:
        yield
    except USERS_ERRORS:
        raise
    except Exception as error:  # hosts raise whatever they like
        cause = explain(error, cfg)
        if cause is None:
            raise
        kind = ConfigError if cause.certain else RunError
        raise kind(f'config {cfg.filename}: {cause}') from error
