"""Registries of aib_mm: children of mmengine's root registries, scope ``aib_mm``.

Core classes are registered in the *root*, so that ``type='AIBAttention'`` resolves
from every ``default_scope``. A child registry that does not hold a name asks its
parents, therefore ``type='aib_mm.AIBAttention'`` resolves through the children below.
Classes for one host are registered in that host's registry and in the child.
"""

from typing import Any

from mmengine import registry as root

MODELS = root.Registry('model', parent=root.MODELS, scope='aib_mm')
DATASETS = root.Registry('dataset', parent=root.DATASETS, scope='aib_mm')
TRANSFORMS = root.Registry('transform', parent=root.TRANSFORMS, scope='aib_mm')
METRICS = root.Registry('metric', parent=root.METRICS, scope='aib_mm')
HOOKS = root.Registry('hook', parent=root.HOOKS, scope='aib_mm')


def build_part(cfg: dict | list[dict] | None) -> Any:
    """Build a part named inside another part's config; None stays None.

    The parts of a list run one after the other.

    Names are looked up in the host whose scope is active, else in aib_mm's own
    registry, which also holds the parts made for one host.
    """
    return None if cfg is None else MODELS.build(cfg)


def with_settings(name: str, cfg: dict, **settings: Any) -> dict:
    """The config of a part, with the settings that the owner of the part decides.

    Args:
        name: argument of the owner which the config is.
        cfg: config of the part.
        settings: arguments of the owner that the part gets too.

    Raises:
        ValueError: the config has another value of one, which would be lost.
    """
    for key, value in settings.items():
        if cfg.get(key, value) != value:
            raise ValueError(
                f'{name}.{key}={cfg[key]!r}, but {name} gets {key}={value!r}: set '
                f'{key}={cfg[key]!r} beside {name}, or leave it out of {name}'
            )
    return {**cfg, **settings}
