"""Files that come with the package: configs, programs, and small trained models."""

from pathlib import Path

import aib_mm

_PACKAGE = Path(aib_mm.__file__).resolve().parent
_FOLDERS = (_PACKAGE / '.mim', _PACKAGE.parent)  # installed, or in a checkout


def shipped(name: str) -> Path:
    """A file of ``configs/`` or ``tools/``, of an installed package or the checkout.

    Raises:
        FileNotFoundError: neither has it.
    """
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f'{name} is in none of {", ".join(map(str, _FOLDERS))}: install aib_mm anew '
        '(make setup)'
    )


def shipped_models() -> dict[str, Path]:
    """Weights of the models that come trained, by the names of their configs."""
    return {path.stem: path for path in sorted((_PACKAGE / 'weights').glob('*.pth'))}


def shipped_model(name: str) -> tuple[Path, Path]:
    """Config and weights of a model that comes trained.

    Raises:
        ValueError: there is none of this name.
    """
    models = shipped_models()
    if name not in models:
        raise ValueError(
            f'no model {name!r} comes with aib_mm, only {", ".join(models)}: for '
            'another one give its config and its checkpoint'
        )
    found = [path for at in _FOLDERS for path in at.glob(f'configs/*/{name}.py')]
    return found[0] if found else shipped(f'configs/{name}.py'), models[name]
