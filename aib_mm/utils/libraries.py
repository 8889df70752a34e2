"""Libraries that only some measures need: the package's extra ``interpret``."""

import importlib


class MissingLibraryError(ImportError):
    """A library is not installed; the message says how to install it."""


def require_library(module: str, package: str, purpose: str) -> None:
    """Raise unless ``module`` can be imported.

    Args:
        module: its import name.
        package: its name for pip.
        purpose: what needs it, in the plural.

    Raises:
        MissingLibraryError: names the remedy.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise MissingLibraryError(
            f'{purpose} need {package}, which cannot be imported ({error}): pip '
            f"install {package}, or this package's extra 'interpret'"
        ) from error
