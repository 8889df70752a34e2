"""SVHN and STL-10 without the published MD5 sums, and sets nobody can download.

A sum of None compares nothing. See ``svhn_files`` and ``stl10_files``; a config takes
these classes by name, ``unchecked_sets.UncheckedSVHN``.
"""

from dataclasses import replace
from typing import ClassVar

from mmengine.dataset import BaseDataset
from unchecked_cifar import UncheckedCIFAR10

from aib_mm.classification import STL10, SVHN

#: Nothing listens there.
CLOSED = 'http://127.0.0.1:9'


def _changed(splits: dict, **changes: str | None) -> dict:
    return {
        split: [replace(file, **changes) for file in files]
        for split, files in splits.items()
    }


class UncheckedSVHN(SVHN):
    splits: ClassVar = _changed(SVHN.splits, md5=None)


class UncheckedSTL10(STL10):
    splits: ClassVar = _changed(STL10.splits, md5=None)


class ClosedSVHN(SVHN):
    splits: ClassVar = _changed(SVHN.splits, url=f'{CLOSED}/train_32x32.mat')


class ClosedSTL10(STL10):
    splits: ClassVar = _changed(STL10.splits, url=f'{CLOSED}/stl10_binary.tar.gz')


class ClosedCIFAR10(UncheckedCIFAR10):
    url = f'{CLOSED}/cifar-10-python.tar.gz'


def samples(dataset: BaseDataset) -> list[dict]:
    """What a data set knows of each sample, before its pipeline."""
    return [dataset.get_data_info(index) for index in range(len(dataset))]
