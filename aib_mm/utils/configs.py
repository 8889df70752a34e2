"""Reading configs: what they hold, and which class a part names."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict


def model_settings(cfg: Config) -> ConfigDict:
    """What the Runner builds the model from: also the config's data preprocessor."""
    model = cfg.model.copy()
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return model


def walk(node: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """Everything below ``node``, itself first, with its place."""
    yield place, node
    if isinstance(node, dict):
        items: Any = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    else:
        return
    for key, child in items:
        yield from walk(child, f'{place}.{key}' if place else str(key))


def type_name(node: Any) -> str:
    """What a config's ``type`` names, without scope or module; '' if there is none."""
    kind = node.get('type', '') if isinstance(node, dict) else ''
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def hooks_of(cfg: Any) -> list[Any]:
    """Configs of a training's hooks: those with a name, then ``custom_hooks``."""
    named = (cfg.get('default_hooks') or {}).values()
    return [hook for hook in [*named, *(cfg.get('custom_hooks') or [])] if hook]


def innermost_datasets(node: Any) -> Iterator[Any]:
    """The data sets that load files, below those that mix or repeat them.

    Args:
        node: a data loader, a data set or a list of data sets.
    """
    if isinstance(node, list | tuple):
        for child in node:
            yield from innermost_datasets(child)
    elif isinstance(node, dict):
        inner = [node[key] for key in ('dataset', 'datasets') if key in node]
        if inner:
            yield from innermost_datasets(inner)
        else:
            yield node


def innermost_dataset(dataset: Any) -> Any:
    """The one data set that loads files below those that repeat or balance it.

    Raises:
        ValueError: there are several, or it has no pipeline.
    """
    found = list(innermost_datasets(dataset))
    if len(found) != 1 or 'pipeline' not in found[0]:
        raise ValueError(
            f'the data set of type {dataset.get("type")!r} must be or hold exactly one '
            f'that loads files by a pipeline, it has {len(found)}: give a config whose '
            'test_dataloader reads one set'
        )
    return found[0]
