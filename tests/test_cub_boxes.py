"""CUB with boxes: its samples, its crops, its loaders, its damaged files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmpretrain')

from cub_files import BOXES, image_of, write_cub
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from unchecked_sets import samples

from aib_mm.classification import CropToBox, CUBWithBoxes
from aib_mm.errors import DataError

BASE = Path(__file__).parents[1] / 'configs/mmpretrain/_base_'


def loader(path: Path, change: dict, name: str = 'test_dataloader') -> dict:
    """The first batch of a loader of a base config, on the files of a test."""
    cfg = Config.fromfile(path)[name]
    cfg.merge(change)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return next(iter(Runner.build_dataloader(cfg, seed=0)))


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    return write_cub(tmp_path / 'CUB_200_2011')


def test_cub_has_boxes_and_crops_to_them(cub) -> None:
    train, test = (CUBWithBoxes(str(cub), split=split) for split in ('train', 'test'))
    assert [sample['gt_label'] for sample in samples(train)] == [0, 2, 4]
    assert [sample['gt_label'] for sample in samples(test)] == [1, 3, 5]
    pipeline = [dict(type='LoadImageFromFile'), dict(type='CropToBox')]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = CUBWithBoxes(str(cub), split='train', pipeline=pipeline)
    corners = {1: (10, 5, 40, 25), 3: (7, 3, 28, 44), 5: (0, 0, 60, 50)}
    for sample, (number, corner) in zip(dataset, corners.items(), strict=True):
        assert tuple(sample['bird_box']) == BOXES[(number - 1) % 3]
        left, top, right, bottom = corner
        expected = image_of(number)[top:bottom, left:right, ::-1]
        assert np.array_equal(sample['img'], expected)
        assert sample['img_shape'] == expected.shape[:2]


def test_cub_loaders_give_224(cub) -> None:
    change = dict(num_workers=0, batch_size=3, dataset=dict(data_root=str(cub)))
    for name in ('train_dataloader', 'test_dataloader'):
        batch = loader(BASE / 'datasets/cub.py', change, name)
        assert [tuple(image.shape) for image in batch['inputs']] == [(3, 224, 224)] * 3
    # Image 2 fills its frame: the centre crop takes 16 of 256 from every side.
    red = batch['inputs'][0][2].float()
    assert red.min() == pytest.approx(16 / 256 * 60, abs=1)
    assert red.max() == pytest.approx(240 / 256 * 60, abs=1)


def break_list(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / f'{name}.txt'
        path.write_text(change(path.read_text()))

    return damage


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (
            lambda root: (root / 'bounding_boxes.txt').unlink(),
            r'CUB_200_2011 has no bounding_boxes\.txt: unpack CUB_200_2011\.tgz there',
        ),
        (
            break_list('bounding_boxes', lambda text: text.replace(' 30.0', '')),
            r"bounding_boxes\.txt, line 1: '1 10\.0 5\.0 20\.0' should be NUMBER LEFT",
        ),
        (
            break_list('bounding_boxes', lambda text: text.replace(' 30.0', ' 0.0')),
            r'line 1: .*a box of no size',
        ),
        (
            break_list('bounding_boxes', lambda text: '1 0 0 9 9\n'),
            r'bounding_boxes\.txt has no box for 003\.Bird/Bird_0003\.jpg',
        ),
        (
            break_list('image_class_labels', lambda text: text.replace('3 3', '3 201')),
            r'has the label 201 for 003\.Bird.*, but the set has 200 classes',
        ),
        (
            break_list('image_class_labels', lambda text: text.partition('\n')[2]),
            r'the lists of CUB-200-2011 in .* are damaged \(sample_ids should be same',
        ),
        (
            break_list('images', lambda text: 'garbage\n'),
            r'the lists of CUB-200-2011 in .* are damaged',
        ),
    ],
)
def test_damaged_cub_is_named(cub, damage, message) -> None:
    damage(cub)
    with pytest.raises(DataError, match=message):
        CUBWithBoxes(str(cub), split='train')


@pytest.mark.parametrize(
    ('results', 'message'),
    [
        (dict(img_path='a.jpg'), "found no 'bird_box' for a.jpg: .* CUBWithBoxes"),
        (
            dict(img_path='a.jpg', bird_box=(70.0, 0.0, 5.0, 5.0)),
            r'the box \(70.0, .*lies outside a.jpg, which is \(50, 60\)',
        ),
    ],
)
def test_crop_without_a_box_is_refused(results, message) -> None:
    with pytest.raises(DataError, match=message):
        CropToBox()(dict(results, img=image_of(1)))


def test_a_lone_image_is_taken_whole_and_one_of_a_set_is_not() -> None:
    lone, labelled = dict(img=image_of(1)), dict(img=image_of(1), gt_label=3)
    assert CropToBox(lone_images=True)(lone)['img'] is lone['img']
    with pytest.raises(DataError, match="found no 'bird_box'"):
        CropToBox(lone_images=True)(labelled)


def test_crop_keeps_what_a_box_beyond_the_border_touches() -> None:
    results = CropToBox()(dict(img=image_of(1), bird_box=(-3.0, 45.5, 10.0, 20.0)))
    assert np.array_equal(results['img'], image_of(1)[45:, :7])
