"""STL-10 as an mmpretrain dataset, also with the labels of CIFAR-10."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmpretrain.datasets.categories import CIFAR10_CATEGORIES
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS
from torchvision.datasets import STL10 as TorchvisionSTL10

from aib_mm.classification.datasets.published import (
    PublishedDataset,
    PublishedFile,
    check_labels,
)
from aib_mm.errors import DataError, choose
from aib_mm.registry import DATASETS

CLASSES = (
    'airplane',
    'bird',
    'car',
    'cat',
    'deer',
    'dog',
    'horse',
    'monkey',
    'ship',
    'truck',
)
#: Names under which another set has the same class.
SYNONYMS = {'car': 'automobile'}
UNMATCHED = ('drop', 'error')
#: A label that no model gives.
NO_CLASS = -1

_SHAPE = (3, 96, 96)

# Addresses and sums are torchvision's.
_FILES = {
    name: PublishedFile(
        f'{TorchvisionSTL10.base_folder}/{name}',
        md5,
        TorchvisionSTL10.url,
        TorchvisionSTL10.tgz_md5,
    )
    for name, md5 in TorchvisionSTL10.train_list + TorchvisionSTL10.test_list
}


@DATASETS.register_module()
@MMPRETRAIN_DATASETS.register_module()
class STL10(PublishedDataset):
    """STL-10 (Coates et al., 2011): 96×96, 5,000 labelled to train, 8,000 to test.

    Read from the published binary files in ``stl10_binary``; the unlabelled images are
    not needed.

    Args:
        data_root: folder of ``stl10_binary``.
        split: ``train`` or ``test``.
        classes_of: None for the set's own labels; ``'cifar10'`` for CIFAR-10's, so
            that a model of CIFAR-10 can be tested. Nine classes are in both; CIFAR-10
            has no monkey, STL-10 no frog.
        unmatched: what becomes of the monkeys then: ``'drop'`` leaves them out,
            ``'error'`` keeps them with a label that no model gives.
        kwargs: arguments of ``PublishedDataset``, whose errors are raised too.
    """

    METAINFO: ClassVar[dict] = {'classes': CLASSES}

    splits: ClassVar = {
        'train': [_FILES['train_X.bin'], _FILES['train_y.bin']],
        'test': [_FILES['test_X.bin'], _FILES['test_y.bin']],
    }

    def __init__(
        self,
        data_root: str = '',
        split: str = 'train',
        classes_of: str | None = None,
        unmatched: str = 'drop',
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        choose('unmatched', unmatched, UNMATCHED)
        self.label_of = list(range(len(CLASSES)))
        if classes_of is not None:
            choose('classes_of', classes_of, ('cifar10',))
            self.label_of = labels_among(CIFAR10_CATEGORIES)
            metainfo = {'classes': CIFAR10_CATEGORIES, **(metainfo or {})}
        self.unmatched = unmatched
        super().__init__(data_root, split, metainfo, **kwargs)

    def read(self) -> list[dict[str, Any]]:
        """The images of the split whose class has a label."""
        images, labels = read_binary(
            *(self.root / file.path for file in self.splits[self.split])
        )
        samples = (
            dict(img=image, gt_label=self.label_of[label - 1])
            for image, label in zip(images, labels, strict=True)
        )
        if self.unmatched == 'error':
            return list(samples)
        return [sample for sample in samples if sample['gt_label'] != NO_CLASS]


def labels_among(classes: tuple[str, ...]) -> list[int]:
    """Index of each class of STL-10 among ``classes``, or ``NO_CLASS``."""
    names = [SYNONYMS.get(name, name) for name in CLASSES]
    return [classes.index(n) if n in classes else NO_CLASS for n in names]


def read_binary(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, 96, 96, 3)`` uint8, and labels ``(N,)``, 1 to 10.

    The files hold bytes: the labels; the images as planes of red, green and blue, each
    column by column.

    Raises:
        DataError: the files do not fit that, or each other.
    """
    pixels = np.fromfile(images, np.uint8)
    found = np.fromfile(labels, np.uint8)
    whole, rest = divmod(pixels.size, int(np.prod(_SHAPE)))
    if rest or whole != found.size:
        raise DataError(
            f'{images} has {pixels.size} bytes ({whole} images of 3x96x96 and {rest} '
            f'bytes), and {labels} has {found.size} labels: one is damaged; unpack the '
            f'archive again'
        )
    check_labels(found, labels, len(CLASSES))
    planes = pixels.reshape(-1, *_SHAPE)
    return np.ascontiguousarray(planes.transpose(0, 3, 2, 1)), found.astype(int)
