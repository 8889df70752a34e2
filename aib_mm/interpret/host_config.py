"""What an inferencer needs to know of a host's config and checkpoint."""

import logging
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from aib_mm.checkpoint import CheckpointError
from aib_mm.compare import KeyReport

_SHOWN_KEYS = 3


def innermost_dataset(dataset: ConfigDict) -> ConfigDict:
    """Of a data set in wrappers: ``RepeatDataset``, ``ClassBalancedDataset``.

    Raises:
        ValueError: several sets in one (``ConcatDataset``).
    """
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if 'pipeline' not in dataset:
        raise ValueError(
            f'dataset of type {dataset.get("type")!r} has no pipeline of its own: give '
            'a config whose test_dataloader reads one set'
        )
    return dataset


def class_meta(meta: Mapping[str, Any], dataset: ConfigDict) -> dict[str, Any]:
    """Names and colours of the classes, from whoever knows them.

    Args:
        meta: of the checkpoint, which has the last word; keys in any case.
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
    if classes and not isinstance(meta.get('palette'), list | tuple):
        colors = matplotlib.colormaps['tab20'](np.arange(len(classes)) % 20)[:, :3]
        meta['palette'] = np.round(255 * colors).astype(int).tolist()
    return meta


def check_fit(report: KeyReport, checkpoint: str, model: str) -> None:
    """Refuse a checkpoint that would leave weights random; warn of superfluous ones.

    Raises:
        CheckpointError: names some of what is missing or of another shape.
    """
    lacking = [*report.new, *report.missing, *(one.key for one in report.mismatched)]
    if lacking:
        shown = ', '.join(lacking[:_SHOWN_KEYS])
        more = ', …' if len(lacking) > _SHOWN_KEYS else ''
        raise CheckpointError(
            f'checkpoint {checkpoint} is not of this {model}: {len(lacking)} of its '
            f'weights are missing or of another shape ({shown}{more}), so that they '
            'would stay random; give the config that it was trained with'
        )
    if report.unexpected:
        print_log(
            f'checkpoint {checkpoint} has {len(report.unexpected)} weights that '
            f'{model} does not: {", ".join(report.unexpected[:_SHOWN_KEYS])}',
            logger='current',
            level=logging.WARNING,
        )
