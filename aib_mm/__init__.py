"""Information-bottleneck spatial attention for the OpenMMLab toolboxes.

``custom_imports = dict(imports=['aib_mm'])`` in a config registers everything: the core
in mmengine's root registries, and the parts for each host that is installed.
"""

from aib_mm import (
    adversarial,
    attention,
    encoders,
    hooks,
    interpret,
    losses,
    noise,
    plugin_layer,
    quantizer,
)
from aib_mm.hosts import register_hosts
from aib_mm.training import (
    damaged_data,
    non_finite,
    random_state,
    safe_checkpoint,
    sharding,
)
from aib_mm.training.checkpoint import allow_mmengine_checkpoints
from aib_mm.version import __version__

__all__ = [
    '__version__',
    'adversarial',
    'attention',
    'damaged_data',
    'encoders',
    'hooks',
    'interpret',
    'losses',
    'noise',
    'non_finite',
    'plugin_layer',
    'quantizer',
    'random_state',
    'safe_checkpoint',
    'sharding',
]

allow_mmengine_checkpoints()
register_hosts()
