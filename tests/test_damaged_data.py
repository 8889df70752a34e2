"""Damaged images and annotations are named; training stops or passes them over."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ade_files import write_ade
from cifar_files import environment
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from PIL import Image
from tiny_runs import count_iterations, tiny_config, train

from aib_mm.errors import DataError
from aib_mm.training.damaged_data import CheckSample, damage_of, loaded_damage
from aib_mm.training.start import check_training_data


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / 'a.jpg'
    Image.effect_noise((40, 30), 50).convert('RGB').save(path)
    return path


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp'])
def test_a_good_image_is_passed_on_as_it_is(suffix: str, image: Path) -> None:
    path = image.with_suffix(suffix)
    Image.open(image).save(path)
    results = dict(img_path=str(path), seg_map_path=None, instances=[])
    assert CheckSample()(results) is results


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize(
    ('damage', 'cause'),
    [
        (lambda path: cut(path, 0.9), '[tT]runcated'),
        (lambda path: cut(path, 0.5), '[tT]runcated'),
        (lambda path: cut(path, 0.0), 'the file is empty'),
        (lambda path: path.write_text('<html>404</html>'), 'it is no .(jpg|png) file'),
        (lambda path: path.unlink(), 'there is no such file'),
    ],
    ids=['end', 'half', 'empty', 'foreign', 'missing'],
)
def test_damaged_images_are_named(
    damage: Callable[[Path], Any], cause: str, suffix: str, image: Path
) -> None:
    path = image.with_suffix(suffix)
    Image.open(image).save(path)
    damage(path)
    with pytest.raises(DataError, match=rf'image .*a\{suffix} is damaged: .*{cause}'):
        CheckSample()(dict(img_path=str(path)))


def test_bytes_after_the_end_are_no_damage(image: Path) -> None:
    image.write_bytes(image.read_bytes() + b'\0' * 100)
    assert damage_of(dict(img_path=image)) is None


def test_formats_of_other_loaders_and_addresses_are_left_to_them(image: Path) -> None:
    raw = image.with_suffix('.raw16')
    raw.write_bytes(b'\1\2\3')
    assert damage_of(dict(img_path=raw)) is None
    assert damage_of(dict(img_path='s3://bucket/a.jpg')) is None
    assert damage_of(dict(img=[[0]], gt_label=3)) is None


def test_a_mask_of_another_size_is_named(image: Path) -> None:
    mask = image.with_name('mask.png')
    Image.new('L', (30, 40)).save(mask)
    both = dict(img_path=image, seg_map_path=mask)
    assert damage_of(both) is None, 'turned by the header of the image'
    Image.new('L', (41, 30)).save(mask)
    assert f'mask {mask} is 41x30, its image {image} 40x30' in str(damage_of(both))
    cut(mask, 0.5)
    assert f'mask {mask} is damaged: ' in str(damage_of(both))


@pytest.mark.parametrize(
    ('box', 'cause'),
    [
        ([0, 0, math.nan, 5], 'not four finite numbers'),
        ([0, 0, 5], 'not four finite numbers'),
        ([9, 0, 5, 5], 'ends before it begins'),
    ],
)
def test_damaged_boxes_are_named(box: list, cause: str, image: Path) -> None:
    good = dict(bbox=[1, 1, 3, 3])
    sample = dict(img_path=image, instances=[good, dict(bbox=box)])
    assert f'annotation 1 of image {image}: its box' in str(damage_of(sample))
    assert cause in str(damage_of(sample))
    assert damage_of(dict(img_path=image, instances=[good, {}])) is None


def test_skipped_samples_are_counted_and_named_once(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(
        'aib_mm.training.damaged_data.print_log', lambda line, **_: lines.append(line)
    )
    check = CheckSample(on_damage='skip')
    missing = [dict(img_path=image.with_name(name)) for name in ('x.jpg', 'y.jpg')]
    for sample in (*missing, *missing, dict(img_path=image)):
        check(sample)
    assert [line.partition(':')[2][:26] for line in lines] == [
        ' skipped damaged sample 1 ',
        ' skipped damaged sample 2 ',
    ]
    assert 'x.jpg' in lines[0] and 'y.jpg' in lines[1]


@pytest.mark.parametrize('label', [3, -1, [0, 3], np.int64(7)])
def test_labels_that_are_no_class_are_named(label: Any, image: Path) -> None:
    sample = dict(img_path=image, gt_label=label)
    said = str(damage_of(sample, num_classes=3))
    assert said.startswith(f'image {image} has the label ')
    assert said.endswith('which is none of the 3 classes, 0 to 2')
    assert damage_of(sample) is None
    assert damage_of(dict(sample, gt_label=2), num_classes=3) is None


@pytest.mark.parametrize(
    ('mode', 'kind', 'cause'),
    [
        ('L', 'JPEG', r'a JPEG file, .* values 0, .*; write masks as PNG'),
        ('RGB', 'JPEG', r'a JPEG file, .* values \(0, 0, 0\), '),
        ('I;16', 'PNG', r'values 0, 50, 100, .* \(1200 in all\), .*lowest 8 bits'),
    ],
)
def test_files_that_cannot_hold_classes(
    mode: str, kind: str, cause: str, image: Path
) -> None:
    mask = image.with_name('mask.png')
    ramp = np.arange(1200, dtype=np.uint16).reshape(30, 40)
    pixels = ramp * 50 if mode == 'I;16' else (ramp // 5).astype(np.uint8)
    made = Image.fromarray(pixels)
    (made if mode == 'I;16' else made.convert(mode)).save(mask, kind)
    said = str(damage_of(dict(img_path=image, seg_map_path=mask)))
    assert re.search(f'mask {mask} is damaged: it (is|has the) {cause}', said), said


def test_classes_in_16_bits_are_read(image: Path) -> None:
    mask = image.with_name('mask.png')
    Image.fromarray(np.full((30, 40), 255, np.uint16)).save(mask)
    assert damage_of(dict(img_path=image, seg_map_path=mask)) is None


def loaded(mask: Any = None, **more: Any) -> dict:
    """A sample of mmseg after its loaders, 4 x 6 pixels."""
    return dict(
        img_path='a.jpg',
        seg_map_path='a.png',
        img=np.zeros((4, 6, 3), np.uint8),
        gt_seg_map=np.zeros((4, 6), np.uint8) if mask is None else mask,
        reduce_zero_label=False,
        **more,
    )


@pytest.mark.parametrize(
    ('sample', 'said'),
    [
        (loaded(np.full((4, 6), 3, np.uint8)), 'mask a.png has the values 3, where'),
        (
            loaded(np.full((4, 6, 3), 9, np.uint8)),
            '3 values a pixel, such as (9, 9, 9)',
        ),
        (loaded(np.zeros((6, 4), np.uint8)), 'image a.jpg as it is loaded 6x4: one'),
        (loaded(height=6, width=4), 'image a.jpg is 6x4 where its annotations say 4x6'),
        (loaded(height=4, width=6), None),
        (loaded(np.full((4, 6), 2, np.uint8)), None),
        (loaded(np.full((4, 6), 255, np.uint8)), None),
        (loaded(np.full((4, 6), 77, np.uint8)), None),
        (dict(img=np.zeros((4, 6), np.uint8), gt_label=3), None),
    ],
)
def test_samples_are_checked_as_they_were_loaded(sample: dict, said: Any) -> None:
    found = loaded_damage(sample, num_classes=3, ignore_index=77)
    assert found is None if said is None else said in str(found), found


def test_other_hosts_masks_may_hold_more_than_classes() -> None:
    sample = loaded(np.full((4, 6), 200, np.uint8))
    del sample['reduce_zero_label']
    assert loaded_damage(sample, num_classes=3) is None


@pytest.mark.parametrize('on_damage', ['stop', 'skip'])
def test_what_a_loader_cannot_read_is_named(on_damage: str, image: Path) -> None:
    """A GIF is whole, and OpenCV reads none."""
    Image.open(image).save(image.with_suffix('.gif'))
    path = image.with_suffix('.gif')
    load = [dict(type='mmcv.LoadImageFromFile', color_type='unknown')]
    check = CheckSample(on_damage, load=load)
    if on_damage == 'skip':
        assert check(dict(img_path=str(path))) is None
        return
    with pytest.raises(DataError, match=rf'image {path}: LoadImageFromFile fails: '):
        check(dict(img_path=str(path)))


def test_bad_argument() -> None:
    with pytest.raises(ValueError, match=r"on_damage must be .*'stop', 'skip'"):
        CheckSample(on_damage='ignore')


def damage_detection(root: Path) -> tuple[Config, Path]:
    cfg = tiny_config('detection', root)
    return cfg, root / 'data/coco/train2017/000000000003.jpg'


def damage_segmentation(root: Path) -> tuple[Config, Path]:
    cfg = tiny_config('segmentation', root)
    folder = root / 'data/ade/ADEChallengeData2016/annotations/training'
    return cfg, folder / 'ADE_train_00000003.png'


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('damage', [damage_detection, damage_segmentation])
@pytest.mark.slow
def test_training_stops_or_passes_over(
    damage: Callable, workers: int, tmp_path: Path
) -> None:
    cfg, path = damage(tmp_path)
    cfg = count_iterations(cfg, 4, interval=4)
    cfg.train_dataloader.num_workers = workers
    cut(path, 0.5)
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline.insert(0, dict(type='CheckSample'))
    with pytest.raises(DataError, match=f'{path.name} is damaged'):
        train(cfg, tmp_path / 'stop')
    pipeline[0]['on_damage'] = 'skip'
    assert len(train(cfg, tmp_path / 'skip').losses) == 4
    (log,) = (tmp_path / 'skip').glob('*/*.log')
    assert f'{path.name} is damaged' in log.read_text()


def dataset_config(**dataset: Any) -> Config:
    loader = dict(dataset=dict(type='X', pipeline=[dict(type='Load')], **dataset))
    return Config(dict(train_dataloader=loader, custom_imports=dict(imports=['b'])))


def test_the_program_checks_innermost_data_sets() -> None:
    cfg = dataset_config()
    inner = dict(cfg.train_dataloader.dataset)
    remote = dict(type='X', pipeline=[dict(type='Load', backend_args=dict(a=1))])
    both = dict(type='ConcatDataset', datasets=[inner, remote])
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', dataset=both)
    check_training_data(cfg, 'skip')
    found = cfg.train_dataloader.dataset.dataset.datasets
    check = dict(type='CheckSample', on_damage='skip')
    assert found[0].pipeline == [dict(check, load=[dict(type='Load')])]
    assert found[1].pipeline == remote['pipeline']
    assert cfg.custom_imports.imports == ['b', 'aib_mm']
    assert cfg.custom_hooks == [dict(type='UsedDataHook')]
    assert isinstance(TRANSFORMS.build(check), CheckSample)


def test_only_the_steps_that_load_are_run_by_the_check() -> None:
    steps = [dict(type='mmcv.LoadImageFromFile'), dict(type='Flip')]
    cfg = dataset_config(metainfo=dict(classes=('a', 'b')), ignore_index=9)
    cfg.train_dataloader.dataset.pipeline = [*steps, dict(type='LoadLater')]
    check_training_data(cfg, 'stop')
    assert cfg.train_dataloader.dataset.pipeline == [
        dict(
            type='CheckSample',
            on_damage='stop',
            load=steps[:1],
            num_classes=2,
            ignore_index=9,
        ),
        *steps[1:],
        dict(type='LoadLater'),
    ]


SEGMENTATION = """
_base_ = '{base}'
custom_imports = dict(imports=['aib_mm'])
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='data/ade/ADEChallengeData2016',
        metainfo=dict(_delete_=True, classes=[str(i) for i in range(150)]),
        data_prefix=dict(
            img_path='images/training', seg_map_path='annotations/training'
        ),
        img_suffix='.jpg',
    )
)
"""


@pytest.mark.slow
def test_the_last_word_of_the_command(repo: Path, tmp_path: Path) -> None:
    pytest.importorskip('mmseg')
    folder = write_ade(tmp_path)
    path = folder / 'images/training/ADE_train_00000002.jpg'
    cut(path, 0.5)
    base = repo / 'configs/mmseg/upernet_beit-narrow_aib_digitscenes.py'
    (tmp_path / 'config.py').write_text(SEGMENTATION.format(base=base))
    done = subprocess.run(
        [sys.executable, repo / 'tools/train.py', 'config.py', '--no-validate'],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('train.py: error: image ')
    assert 'ADE_train_00000002.jpg is damaged: image file is truncated' in last
