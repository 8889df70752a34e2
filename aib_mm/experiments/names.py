"""What users say of configs by their names: titles of rows, maps."""

from collections.abc import Collection, Sequence

from aib_mm.errors import UsageError


def read_pairs(
    option: str, form: str, texts: Sequence[str], names: Collection[str]
) -> dict[str, str]:
    """Values by the config's name.

    Args:
        option: name of the option, for messages.
        form: form of its texts, such as ``NAME=TITLE``.
        texts: texts as given.
        names: names of the configs.

    Raises:
        UsageError: a text of another form, or with an unknown name.
    """
    pairs = {}
    for text in texts:
        name, sign, value = text.partition('=')
        if not sign or name not in names:
            raise UsageError(
                f'{option} takes {form} with NAME one of {list(names)}, got {text!r}'
            )
        pairs[name] = value
    return pairs


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
            ((name, value),) = read_pairs(option, 'NAME=VALUE', [text], names).items()
            own[name].append(value)
    shared = [text for text in texts if '=' not in text]
    return {name: values or shared for name, values in own.items()}
