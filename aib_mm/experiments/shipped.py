"""Files that come with the package beside its code: configs and programs."""

from pathlib import Path

import aib_mm


def shipped(name: str) -> Path:
    """A file of ``configs/`` or ``tools/``, of an installed package or the checkout.

    Raises:
        FileNotFoundError: neither has it.
    """
    package = Path(aib_mm.__file__).resolve().parent
    folders = (package / '.mim', package.parent)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f'{name} is in none of {", ".join(map(str, folders))}: install aib_mm anew '
        '(make setup)'
    )
