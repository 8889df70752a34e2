"""Damaged images and annotations are named; training stops or passes them over."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ade_files import write_ade
from cifar_files import environment
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from PIL import Image
from tiny_runs import count_iterations, tiny_config, train

from aib_mm.errors import DataError
from aib_mm.training.damaged_data import (
    CheckSample,
    check_coco,
    coco_problems,
    damage_of,
)
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


def test_bad_argument() -> None:
    with pytest.raises(ValueError, match=r"on_damage must be .*'stop', 'skip'"):
        CheckSample(on_damage='ignore')


def coco(**changes: Any) -> dict:
    annotation = dict(id=5, image_id=1, category_id=3, bbox=[1, 1, 4, 4], area=16)
    annotation.update(changes)
    present = {key: value for key, value in annotation.items() if value is not None}
    good = dict(id=4, image_id=1, category_id=3, bbox=[0, 0, 2, 2], area=4)
    return dict(
        images=[dict(id=1, width=10, height=10)],
        categories=[dict(id=3)],
        annotations=[good, present],
    )


@pytest.mark.parametrize(
    ('change', 'damage'),
    [
        (dict(image_id=9), 'id 5: image_id 9 is not in images'),
        (dict(category_id=8), 'id 5: category_id 8 is not in categories'),
        (dict(bbox=None), 'id 5: no bbox'),
        (dict(area=None), 'id 5: no area'),
        (dict(bbox=[1, 2, 3]), 'id 5: bbox [1, 2, 3] is not four finite numbers'),
        (dict(bbox=[1, 2, 3, 'x']), "id 5: bbox [1, 2, 3, 'x'] is not four finite"),
        (dict(bbox=[1, 2, math.nan, 3]), 'id 5: bbox [1, 2, nan, 3] is not four'),
        (dict(bbox=[1, 2, -3, 3]), 'id 5: bbox [1, 2, -3, 3] has a negative width'),
        (dict(id=None, bbox=None), 'number 1: no bbox'),
    ],
)
def test_damaged_coco_annotations(change: dict, damage: str) -> None:
    damaged, unused = coco_problems(coco(**change))
    assert len(damaged) == 1 and damaged[0].startswith(damage)
    assert unused == []


def test_coco_annotations_without_use_are_only_logged(tmp_path: Path) -> None:
    for box in ([1, 1, 0.0, 4], [1, 1, 4, 0.5], [20, 1, 4, 4], [-9, 1, 4, 4]):
        assert coco_problems(coco(bbox=box)) == ([], [f'id 5: bbox {box}'])
    assert coco_problems(coco(iscrowd=1)) == ([], [])
    (tmp_path / 'a.json').write_text(json.dumps(coco(bbox=[1, 1, 0.0, 4])))
    check_coco(tmp_path / 'a.json')


@pytest.mark.parametrize('content', [[], {}, dict(annotations=[dict(caption='a')])])
def test_other_formats_are_left_alone(content: Any) -> None:
    assert coco_problems(content) == ([], [])


def test_damaged_annotation_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    with pytest.raises(DataError, match=r'a\.json cannot be read: No such file'):
        check_coco(path)
    path.write_text('{"images": [')
    with pytest.raises(DataError, match=r'a\.json is no JSON: Expecting value: line 1'):
        check_coco(path)
    content = coco()
    content['annotations'] *= 20
    for annotation in content['annotations'][:30]:
        annotation['image_id'] = 9
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'40 annotations \(id 4: .*; 20 more\) damag'):
        check_coco(path)
    check_coco(path, 'skip')


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
    assert found[0].pipeline == [check, dict(type='Load')]
    assert found[1].pipeline == remote['pipeline']
    assert cfg.custom_imports.imports == ['b', 'aib_mm']
    assert isinstance(TRANSFORMS.build(check), CheckSample)


def test_the_program_checks_annotation_files(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    from coco_files import write_coco

    folder = write_coco(tmp_path)
    name = 'annotations/instances_train2017.json'
    cfg = dataset_config(data_root=str(folder), ann_file=name)
    check_training_data(cfg, 'stop')
    content = json.loads((folder / name).read_text())
    content['annotations'][0]['image_id'] = 99
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'1 annotation \(id 1: image_id 99 is not in'):
        check_training_data(cfg, 'stop')
    check_training_data(cfg, 'skip')


SEGMENTATION = """
_base_ = '{base}'
custom_imports = dict(imports=['aib_mm'])
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='data/ade/ADEChallengeData2016',
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
