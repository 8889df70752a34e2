"""SVHN, cropped digits, as an mmpretrain dataset."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS
from torchvision.datasets import SVHN as TorchvisionSVHN

from aib_mm.classification.datasets.published import (
    PublishedDataset,
    PublishedFile,
    check_labels,
)
from aib_mm.errors import DataError
from aib_mm.registry import DATASETS

# Addresses and sums are torchvision's.
_FILES = {
    split: PublishedFile(name, md5, url)
    for split, (url, name, md5) in TorchvisionSVHN.split_list.items()
}


@DATASETS.register_module()
@MMPRETRAIN_DATASETS.register_module()
class SVHN(PublishedDataset):
    """House numbers (Netzer et al., 2011): 32×32 crops, the digit in the middle.

    Read from the published ``.mat`` files, in which label 10 is the digit 0. ``split``
    is ``train`` (73,257 images), ``extra`` (531,131), ``train+extra`` or ``test``
    (26,032). Loading ``train+extra`` takes about 5 GB of memory. Arguments and errors
    are those of ``PublishedDataset``.
    """

    METAINFO: ClassVar[dict] = {'classes': tuple(str(digit) for digit in range(10))}

    splits: ClassVar = {
        'train': [_FILES['train']],
        'extra': [_FILES['extra']],
        'train+extra': [_FILES['train'], _FILES['extra']],
        'test': [_FILES['test']],
    }

    def read(self) -> list[dict[str, Any]]:
        """The files of the split, one after the other."""
        samples = []
        for file in self.splits[self.split]:
            images, labels = read_mat(self.root / file.path)
            samples += [
                # The file has the images along its last, slowest axis.
                dict(img=np.ascontiguousarray(images[..., i]), gt_label=int(label) % 10)
                for i, label in enumerate(labels)
            ]
        return samples


def read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(32, 32, 3, N)`` uint8 and labels ``(N,)``, 1 to 10, of one file.

    Raises:
        DataError: scipy is not installed, or the file holds something else.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(
            f'{path} is read by scipy, which cannot be imported ({error}): '
            f'pip install scipy'
        ) from error
    try:
        content = loadmat(path, variable_names=('X', 'y'))
    except Exception as error:  # scipy raises a dozen kinds for a damaged file
        raise DataError(
            f'{path} cannot be read as a .mat file ({type(error).__name__}: {error}): '
            f'it is damaged; fetch it again'
        ) from error
    images, labels = content.get('X'), content.get('y')
    if (
        images is None
        or labels is None
        or images.dtype != np.uint8
        or images.shape != (32, 32, 3, labels.size)
    ):
        found = {
            name: f'{value.dtype} {value.shape}'
            for name, value in content.items()
            if isinstance(value, np.ndarray)
        }
        raise DataError(
            f'{path} should hold X, uint8 (32, 32, 3, N), and y with N labels, but '
            f'holds {found or "neither"}: fetch the file of cropped digits (format 2)'
        )
    labels = labels.ravel()
    check_labels(labels, path, 10)
    return images, labels
