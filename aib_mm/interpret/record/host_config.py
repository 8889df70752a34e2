"""What an inferencer needs to know of a host's config."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS


def class_meta(meta: Mapping[str, Any], dataset: ConfigDict) -> dict[str, Any]:
    """Names and colours of the classes, from whoever knows them; a colour for each.

    Args:
        meta: what the checkpoint says, which has the last word; keys in any case.
        dataset: config of the data set.
    """
    kind = dataset.type
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    registered = getattr(kind, 'METAINFO', {})
    known = {key.lower(): value for key, value in meta.items()}
    meta = {**registered, **(dataset.get('metainfo') or {}), **known}
    classes = meta.get('classes') or ()
    palette = meta.get('palette')
    known_colors = list(palette) if isinstance(palette, list | tuple) else []
    if len(known_colors) < len(classes):
        more = np.arange(len(known_colors), len(classes)) % 20
        colors = np.round(255 * matplotlib.colormaps['tab20'](more)[:, :3])
        meta['palette'] = [*known_colors, *colors.astype(int).tolist()]
    return meta
