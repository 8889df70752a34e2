"""SVHN and STL-10: values, labels, checksums, downloads, and users' errors."""

import functools
import hashlib
import pickle
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip('mmpretrain')

import stl10_files
import svhn_files
import torchvision
from cifar_files import write_cifar10
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CIFAR10
from mmpretrain.datasets.categories import CIFAR10_CATEGORIES
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import DATASETS
from PIL import Image
from scipy.io import savemat
from stl10_files import write_stl10
from svhn_files import NAMES, labels_of, write_mat, write_svhn
from unchecked_cifar import UncheckedCIFAR10
from unchecked_sets import (
    CLOSED,
    ClosedCIFAR10,
    ClosedSTL10,
    ClosedSVHN,
    UncheckedSTL10,
    UncheckedSVHN,
    samples,
)

import aib_mm.registry
from aib_mm.classification import STL10, SVHN, CUBWithBoxes
from aib_mm.classification.datasets.published import PublishedFile, provide
from aib_mm.errors import DataError

BASE = Path(__file__).parents[1] / 'configs/mmpretrain/_base_'


@pytest.fixture(scope='module')
def svhn(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_svhn(tmp_path_factory.mktemp('svhn')))


@pytest.fixture(scope='module')
def stl10(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_stl10(tmp_path_factory.mktemp('stl10')).parent)


# --- values -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ('split', 'parts'),
    [
        ('train', [(20, 0)]),
        ('extra', [(10, 1)]),
        ('train+extra', [(20, 0), (10, 1)]),
        ('test', [(10, 2)]),
    ],
)
def test_svhn_is_the_pixels_and_digits_of_the_files(svhn, split, parts) -> None:
    found = samples(UncheckedSVHN(svhn, split=split))
    images = np.concatenate([svhn_files.images_of(*part) for part in parts])
    digits = np.concatenate([labels_of(count) for count, _ in parts])
    assert [sample['gt_label'] for sample in found] == digits.tolist()
    assert np.array_equal([sample['img'] for sample in found], images)
    assert all(sample['img'].flags.c_contiguous for sample in found)


@pytest.mark.parametrize(
    ('split', 'count', 'seed'), [('train', 20, 0), ('test', 10, 1)]
)
def test_stl10_is_the_pixels_and_labels_of_the_files(stl10, split, count, seed) -> None:
    dataset = UncheckedSTL10(stl10, split=split)
    found = samples(dataset)
    assert [sample['gt_label'] for sample in found] == [i % 10 for i in range(count)]
    images = stl10_files.images_of(count, seed)
    assert np.array_equal([sample['img'] for sample in found], images)
    assert dataset.CLASSES[1:3] == ('bird', 'car') and len(dataset.CLASSES) == 10


def test_readers_agree_with_torchvision(svhn, stl10, monkeypatch) -> None:
    for reader in (torchvision.datasets.SVHN, torchvision.datasets.STL10):
        monkeypatch.setattr(reader, '_check_integrity', lambda self: True)
    theirs = torchvision.datasets.SVHN(svhn, split='test')
    ours = samples(UncheckedSVHN(svhn, split='test'))
    theirs_stl = torchvision.datasets.STL10(stl10, split='test')
    ours_stl = samples(UncheckedSTL10(stl10, split='test'))
    for expected, found in ((theirs, ours), (theirs_stl, ours_stl)):
        assert len(expected) == len(found) == 10
        for (image, label), sample in zip(expected, found, strict=False):
            assert np.array_equal(np.asarray(image), sample['img'])
            assert label == sample['gt_label']


@pytest.mark.parametrize('scope', ['mmpretrain', 'aib_mm'])
def test_names_resolve_from_both_registries(svhn, scope) -> None:
    registry = dict(mmpretrain=DATASETS, aib_mm=aib_mm.registry.DATASETS)[scope]
    for name, kind in (
        ('SVHN', SVHN),
        ('STL10', STL10),
        ('CUBWithBoxes', CUBWithBoxes),
    ):
        assert registry.get(name) is kind
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        cfg = dict(type='unchecked_sets.UncheckedSVHN', data_root=svhn, split='test')
        text = repr(registry.build(cfg))
    assert 'Split: \ttest' in text and svhn in text


def test_sums_and_addresses_are_the_published_ones() -> None:
    (train,) = SVHN.splits['train']
    assert train == PublishedFile(
        'train_32x32.mat',
        'e26dedcc434d2e4c54c9b2d4a06d8373',
        'http://ufldl.stanford.edu/housenumbers/train_32x32.mat',
    )
    images, labels = STL10.splits['test']
    assert images.path == 'stl10_binary/test_X.bin'
    assert images.md5 == '7f263ba9f9e0b06b93213547f721ac82'
    assert labels.md5 == '36f9794fa4beb8a2c72628de14fa638e'
    assert images.url == labels.url and images.url.endswith('stl10_binary.tar.gz')
    assert images.archive_md5 == '91f7769df0f17e558f3565bffb0c7dfb'


# --- STL-10 with the labels of CIFAR-10 -------------------------------------------


def test_nine_classes_get_the_labels_of_cifar10_by_name(stl10) -> None:
    own = samples(UncheckedSTL10(stl10))
    dataset = UncheckedSTL10(stl10, classes_of='cifar10')
    assert dataset.CLASSES == CIFAR10_CATEGORIES
    kept = [
        sample
        for sample in own
        if STL10.METAINFO['classes'][sample['gt_label']] != 'monkey'
    ]
    found = samples(dataset)
    assert len(found) == 18 == len(kept)
    for mapped, sample in zip(found, kept, strict=True):
        name = STL10.METAINFO['classes'][sample['gt_label']]
        same = CIFAR10_CATEGORIES[mapped['gt_label']]
        assert (name, same) == (name, {'car': 'automobile'}.get(name, name))
        assert np.array_equal(mapped['img'], sample['img'])
    assert sorted({s['gt_label'] for s in found}) == [0, 1, 2, 3, 4, 5, 7, 8, 9]


def test_monkeys_can_count_as_errors(stl10) -> None:
    dataset = UncheckedSTL10(stl10, classes_of='cifar10', unmatched='error')
    labels = [sample['gt_label'] for sample in samples(dataset)]
    assert len(labels) == 20 and labels.count(-1) == 2
    perfect = np.array([max(label, 0) for label in labels])
    for guess in range(10):
        perfect[np.array(labels) == -1] = guess
        assert Accuracy.calculate(perfect, np.array(labels))[0].item() == 90
    scores = np.eye(10)[perfect]
    assert Accuracy.calculate(scores, np.array(labels))[0][0].item() == 90


def test_labels_compared_as_numbers_agree_for_six_classes() -> None:
    """Why no model of CIFAR-10 is wrong on less than 40 % when read that way."""
    own = STL10.METAINFO['classes']
    same = [a for a, b in zip(own, CIFAR10_CATEGORIES, strict=True) if a == b]
    assert same == ['airplane', 'cat', 'deer', 'dog', 'ship', 'truck']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(split='unlabeled'), r"split must be one of \['train', 'test'\]"),
        (dict(classes_of='cifar100'), r"classes_of must be one of \['cifar10'\]"),
        (dict(unmatched='frog'), r"unmatched must be one of \['drop', 'error'\]"),
    ],
)
def test_wrong_choices_of_stl10(stl10, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        UncheckedSTL10(stl10, **arguments)


def test_domain_shrinks_by_averaging(stl10) -> None:
    domains = Config.fromfile(BASE / 'domains/stl10.py').domains
    assert list(domains) == ['STL10-train', 'STL10-test']
    cfg = domains['STL10-test'].dataset
    assert cfg.pop('_delete_')
    cfg.update(type='unchecked_sets.UncheckedSTL10', data_root=stl10)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(cfg)
    whole = stl10_files.images_of(10, 1)[1]
    small = np.asarray(
        Image.fromarray(whole).resize((32, 32), Image.Resampling.BILINEAR)
    )
    inputs = dataset[1]['inputs'].permute(1, 2, 0).numpy()
    assert np.array_equal(inputs, small)
    # Taking one pixel of nine would leave three times the noise of a mean of nine.
    assert inputs.astype(float).std() < whole[1::3, 1::3].std()


# --- missing, damaged, of another kind --------------------------------------------


def sets(root: Path, **arguments: Any) -> list[Callable[[], Any]]:
    return [
        functools.partial(kind, str(root), download=False, **arguments)
        for kind in (SVHN, STL10)
    ]


def test_missing_files_are_named_with_the_ways_to_get_them(tmp_path) -> None:
    for make, name, way in zip(
        sets(tmp_path),
        ('train_32x32.mat is missing', r'train_X\.bin is missing; .*train_y\.bin is'),
        ('and put it at', 'and unpack it in'),
        strict=True,
    ):
        with pytest.raises(
            DataError, match=f'{name}.*Set download=True, or fetch .*{way}'
        ):
            make()


def test_wrong_checksum_says_both_sums(tmp_path) -> None:
    write_svhn(tmp_path)
    write_stl10(tmp_path)
    for make, path in zip(
        sets(tmp_path, split='test'),
        (tmp_path / NAMES['test'], tmp_path / 'stl10_binary/test_X.bin'),
        strict=True,
    ):
        found = hashlib.md5(path.read_bytes()).hexdigest()
        message = f'{path.name} is damaged or another version .its MD5 is {found}, not'
        with pytest.raises(DataError, match=message):
            make()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (shorten, r'test_32x32\.mat cannot be read as a \.mat file .*: it is damaged'),
        (lambda path: path.write_bytes(b'<html>'), r'cannot be read as a \.mat file'),
        (lambda path: savemat(path, dict(X=np.zeros(3))), r"should hold X, uint8.*'X'"),
        (lambda path: savemat(path, dict(other='a')), 'should hold X.*format 2'),
        (
            lambda path: savemat(
                path,
                dict(X=np.zeros((32, 32, 3, 4), np.uint8), y=np.ones((3, 1), np.uint8)),
            ),
            r'y with N labels, but holds .*\(3, 1\)',
        ),
        (
            lambda path: write_mat(path, svhn_files.images_of(3, 0), np.arange(10, 13)),
            r'has the labels \[11, 12\], but the set has 10 classes, 1 to 10',
        ),
    ],
    ids=['short', 'html', 'shape', 'names', 'count', 'classes'],
)
def test_damaged_svhn_is_named(tmp_path, damage, message) -> None:
    write_svhn(tmp_path)
    damage(tmp_path / NAMES['test'])
    with pytest.raises(DataError, match=message):
        UncheckedSVHN(str(tmp_path), split='test')


@pytest.mark.parametrize(
    ('name', 'damage', 'message'),
    [
        ('X', shorten, r'276380 bytes \(9 images of 3x96x96 and 27548 bytes\)'),
        ('y', lambda path: path.write_bytes(bytes(9)), 'and .*test_y.bin has 9 labels'),
        (
            'y',
            lambda path: path.write_bytes(bytes(range(2, 12))),
            r'test_y\.bin has the labels \[11\], but the set has 10 classes, 1 to 10',
        ),
        ('y', lambda path: path.write_bytes(bytes(10)), r'has the labels \[0\], but'),
    ],
)
def test_damaged_stl10_is_named(tmp_path, name, damage, message) -> None:
    folder = write_stl10(tmp_path)
    damage(folder / f'test_{name}.bin')
    with pytest.raises(DataError, match=message):
        UncheckedSTL10(str(tmp_path), split='test')


def test_wrong_number_of_classes_is_refused(svhn, stl10) -> None:
    classes = ('even', 'odd')
    with pytest.raises(DataError, match=r"SVHN has 10 classes, .*names 2: \('even'"):
        UncheckedSVHN(svhn, classes=classes)
    with pytest.raises(DataError, match='STL10 has 10 classes, but metainfo names 2'):
        UncheckedSTL10(stl10, metainfo=dict(classes=classes))


def test_folder_is_needed() -> None:
    with pytest.raises(ValueError, match='SVHN needs data_root, the folder'):
        SVHN()


def test_missing_scipy_names_the_remedy(svhn, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'scipy.io', None)
    with pytest.raises(
        DataError, match=r'scipy, which cannot be imported .* pip install'
    ):
        UncheckedSVHN(svhn)


# --- downloads --------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address that serves its files."""
    folder = tmp_path / 'served'
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{http.server_port}'
        http.shutdown()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_missing_and_damaged_files_are_downloaded(server, tmp_path) -> None:
    folder, url = server
    write_svhn(folder)
    name = NAMES['test']
    file = PublishedFile(name, md5(folder / name), f'{url}/{name}')
    root = tmp_path / 'new/svhn'
    provide([file], root, download=True)
    assert (root / name).read_bytes() == (folder / name).read_bytes()
    shorten(root / name)
    provide([file], root, download=True)
    assert not file.problem(root)


def test_one_archive_gives_all_its_files(server, tmp_path) -> None:
    folder, url = server
    whole = write_stl10(tmp_path / 'made')
    with tarfile.open(folder / 'stl10_binary.tar.gz', 'w:gz') as tar:
        tar.add(whole, 'stl10_binary')
    archive = dict(
        url=f'{url}/stl10_binary.tar.gz',
        archive_md5=md5(folder / 'stl10_binary.tar.gz'),
    )

    class Served(STL10):
        splits: ClassVar = {
            split: [
                replace(f, md5=md5(whole.parent / f.path), **archive) for f in files
            ]
            for split, files in STL10.splits.items()
        }

    assert len(Served(str(tmp_path / 'new'))) == 20
    assert len(Served(str(tmp_path / 'new'), split='test', download=False)) == 10


def test_download_of_something_else_is_refused(server, tmp_path) -> None:
    folder, url = server
    (folder / NAMES['test']).write_text('please log in')
    (file,) = (replace(f, url=f'{url}/{NAMES["test"]}') for f in SVHN.splits['test'])
    message = f'what {url}/test_32x32.mat gave is not the published file: .*Remove it'
    with pytest.raises(DataError, match=message):
        provide([file], tmp_path, download=True)


@pytest.mark.parametrize('kind', [ClosedSVHN, ClosedSTL10])
def test_without_a_network_the_way_by_hand_is_named(tmp_path, kind) -> None:
    message = rf'is missing.*; and {CLOSED}/.* cannot be downloaded to .*refused.*fetch'
    with pytest.raises(DataError, match=message):
        kind(str(tmp_path))


# --- what the host's CIFAR says in the same cases --------------------------------


def test_cifar_says_missing_whatever_is_wrong(tmp_path) -> None:
    for content in (None, 'checksum'):
        if content:
            write_cifar10(tmp_path)
        with pytest.raises(RuntimeError, match='Cannot find CIFAR10 dataset in'):
            CIFAR10(str(tmp_path), download=False)


def test_cifar_does_not_name_the_way_without_a_network(tmp_path) -> None:
    with pytest.raises(OSError, match='refused') as caught:
        ClosedCIFAR10(str(tmp_path))
    assert 'cifar' not in str(caught.value).lower()


def test_damaged_cifar_is_an_error_of_pickle(tmp_path) -> None:
    shorten(write_cifar10(tmp_path) / 'test_batch')
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        UncheckedCIFAR10(str(tmp_path), split='test', download=False)


def test_cifar_does_not_look_at_its_labels_and_classes(tmp_path) -> None:
    folder = write_cifar10(tmp_path)
    content = pickle.loads((folder / 'test_batch').read_bytes(), encoding='latin1')
    content['labels'][0] = 77
    (folder / 'test_batch').write_bytes(pickle.dumps(content))
    settings = dict(split='test', download=False, classes=('even', 'odd'))
    dataset = UncheckedCIFAR10(str(tmp_path), **settings)
    assert dataset.get_data_info(0)['gt_label'] == 77
    assert dataset.CLASSES == ('even', 'odd')
