"""Test images of configs: built, drawn by a seed, loaded in batches."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.error import URLError

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor
from torch.utils.data import DataLoader, Subset

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


def choose_images(total: int, count: int | None, seed: int) -> list[int]:
    """``count`` of ``total`` indices, drawn by the seed, in rising order; or all."""
    if count is None or count >= total:
        return list(range(total))
    return sorted(np.random.default_rng(seed).permutation(total)[:count].tolist())


def image_batches(
    cfg: Config, dataset: BaseDataset, indices: Sequence[int], size: int
) -> Iterator[tuple[dict[str, list], Sequence[int]]]:
    """Lists of images and data samples, with the images' indices.

    Args:
        cfg: config whose test loader says how many workers read.
        dataset: data set from ``build_test_set``.
        indices: indices of the images wanted.
        size: images per batch.
    """
    loader = DataLoader(
        Subset(dataset, indices),
        batch_size=size,
        num_workers=cfg.test_dataloader.get('num_workers', 0),
        collate_fn=pseudo_collate,
    )
    done = 0
    for batch in loader:
        count = len(batch['inputs'])
        yield batch, indices[done : done + count]
        done += count
