"""Test images of configs."""

from collections.abc import Sequence
from typing import Any
from urllib.error import URLError

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor

from aib_mm.diagnosis.explain import explained
from aib_mm.errors import UsageError


class DatasetImages(Sequence[Tensor]):
    """The test images of a config, to take patches from.

    Args:
        cfg: config of any classifier of mmpretrain.
        flip: exchange red and blue, so that patches have the order of the images they
            go into.
    """

    def __init__(self, cfg: Config, flip: bool) -> None:
        self.dataset = build_test_set(cfg)
        self.flip = flip
        self.identity = [cfg.test_dataloader.dataset.to_dict(), flip]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Tensor:  # type: ignore[override]  # no slices
        image = self.dataset[index]['inputs']
        # Preprocessors exchange the channels of colour images only.
        return image.flip(0) if self.flip and len(image) == 3 else image


def loads_bgr(cfg: Config) -> bool:
    """Whether the data set of a config gives blue first, by its data preprocessor."""
    model = cfg.get('model') or {}
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor')
    return bool((preprocessor or {}).get('to_rgb', False))


def build_test_set(cfg: Config, name: str = '') -> BaseDataset:
    """The data set of a config's ``test_dataloader``, with its list of files.

    Args:
        cfg: config of any host.
        name: name of the set for messages; by default the config's.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    if cfg.get('test_dataloader') is None:
        raise UsageError(f'config {cfg.filename} has no test_dataloader')
    try:
        scope = DefaultScope.overwrite_default_scope(cfg.get('default_scope'))
        with scope, explained(cfg):
            dataset = DATASETS.build(cfg.test_dataloader.dataset)
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
    except URLError:  # has a message of its own
        raise
    except (OSError, ValueError, RuntimeError, UsageError) as error:
        raise UsageError(
            f'{name or f"test images of {cfg.filename}"}: {error}'
        ) from error
    return dataset
