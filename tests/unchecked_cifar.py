"""mmpretrain's CIFAR loaders without the MD5 sums; see ``cifar_files``.

A sum of ``None`` is mmpretrain's own way of not comparing.
"""

from typing import Any, ClassVar

import numpy as np
from mmpretrain.datasets import CIFAR10, CIFAR100


def _without_sums(files: list) -> list:
    return [[name, None] for name, _ in files]


class UncheckedCIFAR10(CIFAR10):
    train_list = _without_sums(CIFAR10.train_list)
    test_list = _without_sums(CIFAR10.test_list)
    meta: ClassVar = {**CIFAR10.meta, 'md5': None}


class UncheckedCIFAR100(CIFAR100):
    train_list = _without_sums(CIFAR100.train_list)
    test_list = _without_sums(CIFAR100.test_list)
    meta: ClassVar = {**CIFAR100.meta, 'md5': None}


class RedCIFAR10(UncheckedCIFAR10):
    """All images have 200 in the first channel and 0 in the others."""

    def load_data_list(self) -> list[dict[str, Any]]:
        red = np.full((32, 32, 3), (200, 0, 0), np.uint8)
        return [dict(one, img=red) for one in super().load_data_list()]
