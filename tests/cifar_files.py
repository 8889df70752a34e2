"""Small CIFAR-10 and CIFAR-100 folders in the sets' true file format.

``write_cifar10`` and ``write_cifar100`` write what ``cifar-10-python.tar.gz`` and
``cifar-100-python.tar.gz`` unpack to: Python 2 pickles (their strings are bytes) of
rows of 3072 uint8, the red plane first, with the sets' file names and keys.

mmpretrain's loaders compare every file with the published MD5 sum, which a small file
cannot have. ``unchecked_cifar`` holds subclasses of the loaders without the sums; a
config, shipped ones included, takes them by name through ``use_files``::

    write_cifar10(tmp_path)
    options = use_files(tmp_path, 10)
    run([python, 'tools/test.py', config, checkpoint, '--cfg-options', *options],
        env=environment())
"""

import os
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np

TESTS = Path(__file__).resolve().parent


class _Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, as the published files hold them."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack('<i', len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def _write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as file:
        _Python2Pickler(file, protocol=2).dump(content)


def _images(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Noise around one colour per class, so that a small model can learn: (N, 3072)."""
    colours = np.random.default_rng(0).uniform(40, 215, size=(classes, 3, 1))
    noise = np.random.default_rng(seed).normal(0, 20, size=(len(labels), 3, 1024))
    pixels = np.clip(colours[labels] + noise, 0, 255)
    return pixels.astype(np.uint8).reshape(len(labels), 3072)


def _names(count: int, part: str) -> list[bytes]:
    return [f'{part}_s_{index:06d}.png'.encode() for index in range(count)]


def write_cifar10(root: str | Path, train_per_batch: int = 20, test: int = 20) -> Path:
    """Write ``root/cifar-10-batches-py``: five training batches and the test batch."""
    folder = Path(root) / 'cifar-10-batches-py'
    titles = [f'training batch {number} of 5' for number in range(1, 6)]
    files = {f'data_batch_{n + 1}': train_per_batch for n in range(5)}
    files['test_batch'] = test
    titles.append('testing batch 1 of 1')
    for seed, ((name, count), title) in enumerate(
        zip(files.items(), titles, strict=True)
    ):
        labels = np.arange(count) % 10
        content = {
            b'batch_label': title.encode(),
            b'labels': labels.tolist(),
            b'data': _images(labels, 10, seed),
            b'filenames': _names(count, name),
        }
        _write(folder / name, content)
    names = b'airplane automobile bird cat deer dog frog horse ship truck'.split()
    meta = {
        b'num_cases_per_batch': train_per_batch,
        b'label_names': names,
        b'num_vis': 3072,
    }
    _write(folder / 'batches.meta', meta)
    return folder


def write_cifar100(root: str | Path, train: int = 100, test: int = 100) -> Path:
    """Write ``root/cifar-100-python``: the files train, test and meta."""
    folder = Path(root) / 'cifar-100-python'
    for seed, (name, count) in enumerate({'train': train, 'test': test}.items()):
        fine = np.arange(count) % 100
        title = {'train': 'training batch 1 of 1', 'test': 'testing batch 1 of 1'}[name]
        content = {
            b'filenames': _names(count, name),
            b'batch_label': title.encode(),
            b'fine_labels': fine.tolist(),
            b'coarse_labels': (fine // 5).tolist(),
            b'data': _images(fine, 100, seed),
        }
        _write(folder / name, content)
    meta = {
        b'fine_label_names': [f'fine_{index}'.encode() for index in range(100)],
        b'coarse_label_names': [f'coarse_{index}'.encode() for index in range(20)],
    }
    _write(folder / 'meta', meta)
    return folder


def use_files(root: str | Path, classes: int) -> list[str]:
    """Values of ``--cfg-options`` that make a CIFAR config read the files in root.

    Args:
        root: what ``write_cifar10`` or ``write_cifar100`` was given.
        classes: 10 or 100.
    """
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    return [
        option
        for loader in loaders
        for option in (
            f'{loader}.dataset.type=unchecked_cifar.UncheckedCIFAR{classes}',
            f'{loader}.dataset.data_root={root}',
            f'{loader}.num_workers=0',
            f'{loader}.persistent_workers=False',
        )
    ]


def environment(**variables: str) -> dict[str, str]:
    """Environment of a subprocess that finds ``unchecked_cifar`` by name."""
    found = os.environ.get('PYTHONPATH')
    path = os.pathsep.join([str(TESTS)] + ([found] if found else []))
    return {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1', **variables}
