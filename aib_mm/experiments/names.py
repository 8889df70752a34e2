"""What users say of configs by their names: titles of rows, maps."""

from collections.abc import Collection, Mapping, Sequence

from aib_mm.errors import UsageError


def read_titles(texts: Sequence[str], titles: Mapping[str, str]) -> dict[str, str]:
    """Titles by the config's name, those that ``--title`` gives in place of others.

    Args:
        texts: texts ``NAME=TITLE``, as given.
        titles: title of every config that has none of its own.

    Raises:
        UsageError: a text of another form, or with an unknown name.
    """
    found = dict(titles)
    for text in texts:
        name, title = _pair('--title', 'NAME=TITLE', text, titles)
        found[name] = title
    return found


def chosen(
    option: str, texts: Sequence[str], names: Collection[str]
) -> dict[str, list[str]]:
    """What is chosen for each config, by its name, in the order given.

    Args:
        option: name of the option, for messages.
        texts: ``VALUE`` for every config that has none of its own, or ``NAME=VALUE``.
        names: names of the configs.

    Raises:
        UsageError: a text with an unknown name.
    """
    own: dict[str, list[str]] = {name: [] for name in names}
    for text in texts:
        if '=' in text:
            name, value = _pair(option, 'NAME=VALUE', text, names)
            own[name].append(value)
    shared = [text for text in texts if '=' not in text]
    return {name: values or shared for name, values in own.items()}


def _pair(option: str, form: str, text: str, names: Collection[str]) -> tuple[str, str]:
    name, sign, value = text.partition('=')
    if not sign or name not in names:
        raise UsageError(
            f'{option} takes {form} with NAME one of {list(names)}, got {text!r}'
        )
    return name, value
