"""Data sets that are a few published files: found, compared, downloaded, explained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

import mmengine.dist as dist
import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.datasets.utils import (
    calculate_md5,
    download_and_extract_archive,
    download_url,
)

from aib_mm.errors import DataError, choose


@dataclass(frozen=True)
class PublishedFile:
    """A file of a data set and where it comes from.

    Attributes:
        path: path below the folder of the data set.
        md5: MD5 sum of the file; None compares nothing.
        url: address of the file, or of the archive that unpacks to it.
        archive_md5: MD5 sum of that archive; None where ``url`` is the file itself.
    """

    path: str
    md5: str | None
    url: str
    archive_md5: str | None = None

    def problem(self, root: Path) -> str:
        """What is wrong with the file below ``root``; empty if nothing."""
        return _problem(root / self.path, self.md5)

    def by_hand(self, root: Path) -> str:
        """Instructions to fetch the file without this program."""
        if self.archive_md5 is None:
            return f'fetch {self.url} and put it at {root / self.path}'
        return f'fetch {self.url} and unpack it in {root}'


def provide(files: Sequence[PublishedFile], root: Path, download: bool) -> None:
    """See to it that the files are there, whole.

    Args:
        files: the files that are needed.
        root: folder of the data set.
        download: fetch what is missing or damaged.

    Raises:
        DataError: a file is missing or damaged and may not or cannot be downloaded.
    """
    wrong = {file: text for file in files if (text := file.problem(root))}
    if not wrong:
        return
    problems = '; '.join(wrong.values())
    ways = ', or '.join(dict.fromkeys(file.by_hand(root) for file in wrong))
    if not download:
        raise DataError(f'{problems}. Set download=True, or {ways}')
    for file in {file.url: file for file in wrong}.values():
        target = root / file.path
        try:
            if file.archive_md5 is None:
                download_url(file.url, str(target.parent), target.name, file.md5)
            else:
                download_and_extract_archive(file.url, str(root), md5=file.archive_md5)
        except (OSError, HTTPException) as error:  # URLError is an OSError
            raise DataError(
                f'{problems}; and {file.url} cannot be downloaded to {root} ({error}). '
                f'Where there is no network, {ways}'
            ) from error
        except RuntimeError as error:  # the host's, when the sum is another
            got = _problem(root / Path(file.url).name, file.archive_md5 or file.md5)
            raise DataError(
                f'what {file.url} gave is not the published file: {got}. Remove it and '
                f'try again, or {ways}'
            ) from error
    left = [text for file in wrong if (text := file.problem(root))]
    if left:
        raise DataError(f'after the download {"; ".join(left)}; {ways}')


def _problem(path: Path, md5: str | None) -> str:
    if not path.is_file():
        return f'{path} is missing'
    if md5 is None:
        return ''
    found = calculate_md5(str(path))
    if found == md5:
        return ''
    return f'{path} is damaged or another version (its MD5 is {found}, not {md5})'


class PublishedDataset(BaseDataset):
    """Images and labels of published files, held in memory as mmpretrain's CIFAR is.

    Every sample has ``img``, ``(H, W, 3)`` uint8 in RGB, and ``gt_label``. Only the
    files of the chosen split are looked at.

    Args:
        data_root: folder of the data set.
        split: name of a split that the class has.
        metainfo: overrides the names of the classes.
        download: fetch files that are missing or damaged.
        data_prefix: folder below ``data_root``, or all of the path.
        kwargs: arguments of mmpretrain's ``BaseDataset``.

    Raises:
        DataError: the files are missing, damaged, or do not hold what they should.
        ValueError: no folder was given, or a split that does not exist.
    """

    #: Split -> the files that it needs.
    splits: ClassVar[Mapping[str, Sequence[PublishedFile]]] = {}

    def __init__(
        self,
        data_root: str = '',
        split: str = 'train',
        metainfo: dict | None = None,
        download: bool = True,
        data_prefix: str = '',
        **kwargs: Any,
    ) -> None:
        choose('split', split, self.splits)
        if not data_root and not data_prefix:
            raise ValueError(
                f'{type(self).__name__} needs data_root, the folder of its files'
            )
        self.split = split
        self.download = download
        super().__init__(
            ann_file='',
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=dict(root=data_prefix),
            **kwargs,
        )

    @property
    def root(self) -> Path:
        """Folder of the files."""
        return Path(self.data_prefix['root'])

    def read(self) -> list[dict[str, Any]]:
        """The samples of the split, from files that are there."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict[str, Any]]:
        """Provide the files on the first process, read them on all."""
        classes = len(type(self).METAINFO['classes'])
        if len(self.CLASSES) != classes:
            raise DataError(
                f'{type(self).__name__} has {classes} classes, but metainfo names '
                f'{len(self.CLASSES)}: {self.CLASSES}. Leave classes out of metainfo, '
                f'or name all {classes}'
            )
        if dist.is_main_process():
            provide(self.splits[self.split], self.root, self.download)
        dist.barrier()
        return self.read()

    def extra_repr(self) -> list[str]:
        """Lines that mmpretrain prints of the dataset."""
        return [f'Root of dataset: \t{self.root}', f'Split: \t{self.split}']


def check_labels(labels: np.ndarray, path: Path, highest: int) -> None:
    """Raise unless all labels of a file are 1 to ``highest``.

    Raises:
        DataError: names the file and the labels that are not.
    """
    foreign = sorted({int(label) for label in labels if not 1 <= label <= highest})
    if foreign:
        raise DataError(
            f'{path} has the labels {foreign[:5]}, but the set has {highest} classes, '
            f'1 to {highest}: it is another file, or damaged; fetch it again'
        )
