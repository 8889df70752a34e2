"""The shipped detectors through real commands, on COCO-format files, and as in docs."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')

from coco_files import CATEGORY_IDS, small_images, write_coco
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from test_aib_classifiers import mim_name, run

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmdet'
QT = CONFIGS / 'faster_rcnn_r50_aib_qt.py'
# Random weights are sure of nothing, and without a box there is no AP.
ANY_SCORE = 'model.test_cfg.rcnn.score_thr=0.0'
SHORT = [
    'train_cfg.max_epochs=1',
    'train_dataloader.batch_size=2',
    'default_hooks.logger.interval=1',
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with ``data/coco`` and nothing of the repository."""
    path = tmp_path_factory.mktemp('user')
    write_coco(path)
    return path


def test_ground_truth_fed_back_has_an_ap_of_one(folder: Path) -> None:
    root = folder / 'data' / 'coco'
    dataset = CocoDataset(
        data_root=str(root),
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
    )
    metric = CocoMetric(
        ann_file=str(root / 'annotations/instances_val2017.json'), metric='bbox'
    )
    metric.dataset_meta = dataset.metainfo
    for info in dataset:
        boxes = torch.tensor([box['bbox'] for box in info['instances']]).float()
        labels = torch.tensor([box['bbox_label'] for box in info['instances']])
        found = dict(bboxes=boxes, labels=labels, scores=torch.ones(len(labels)))
        shape = (info['height'], info['width'])
        sample = dict(pred_instances=found, img_id=info['img_id'], ori_shape=shape)
        metric.process({}, [sample])
    results = metric.evaluate(size=len(dataset))
    assert results['coco/bbox_mAP'] == 1.0
    written = json.loads((root / 'annotations/instances_val2017.json').read_text())
    assert {a['category_id'] for a in written['annotations']} <= set(CATEGORY_IDS)


@pytest.mark.slow
def test_the_full_size_model_trains_and_is_tested(folder: Path, repo: Path) -> None:
    options = ['--cfg-options', *small_images(), ANY_SCORE]
    train = [sys.executable, repo / 'tools/train.py', QT, '--work-dir', 'out']
    output = run(*train, *options, *SHORT, cwd=folder)
    for name in ('loss_kl', 'loss_vq', 'loss_cmt', 'kl_nats_cls', 'coco/bbox_mAP'):
        assert name in output
    test = [sys.executable, repo / 'tools/test.py', QT, 'out/epoch_1.pth']
    arguments = ['--out', 'metrics.json', '--out-item', 'metrics']
    run(*test, *arguments, *options, cwd=folder)
    metrics = json.loads((folder / 'metrics.json').read_text())
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    run(*test, '--tta', *options, cwd=folder)


@pytest.mark.slow
def test_two_processes_train_a_detector_on_a_cpu(folder: Path, repo: Path) -> None:
    command = [repo / 'tools/dist_train.sh', QT, 2, '--work-dir', 'two']
    options = ['--cfg-options', *small_images(), *SHORT]
    run(*command, *options, 'train_dataloader.batch_size=1', cwd=folder)
    assert (folder / 'two' / 'epoch_1.pth').is_file()


@pytest.mark.slow
def test_mim_trains_and_tests_the_shipped_detector(folder: Path) -> None:
    mim, name = Path(sys.executable).with_name('mim'), mim_name('mmdet')
    alone = ['--gpus', '0', '--launcher', 'none']
    options = ['--cfg-options', *small_images(), ANY_SCORE]
    train = [mim, 'train', name, QT, *alone, '--work-dir', 'mim']
    run(*train, *options, *SHORT, cwd=folder)
    test = [mim, 'test', name, QT, '--checkpoint', 'mim/epoch_1.pth', *alone]
    assert 'coco/bbox_mAP' in run(*test, *options, cwd=folder)


GUIDE = Path(__file__).parents[1] / 'docs' / 'detection.md'
BLOCKS = re.findall(r'```python\n(.*?)```', GUIDE.read_text(), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize('block', BLOCKS, ids=lambda block: block.split()[1])
def test_configs_of_the_guide_train_and_test(block: str, folder: Path) -> None:
    """From a folder without the repository, with the installed package alone."""
    config = folder / block.split()[1]
    config.write_text(block)
    if 'load_from' in block:
        vanilla = Config.fromfile(config).model
        vanilla.neck = vanilla.neck.pre_neck
        vanilla.backbone.init_cfg = None
        vanilla.roi_head.type = 'StandardRoIHead'
        vanilla.roi_head.bbox_head.type = 'Shared2FCBBoxHead'
        with DefaultScope.overwrite_default_scope('mmdet'):
            state = MODELS.build(vanilla).state_dict()
        torch.save(dict(state_dict=state), folder / 'vanilla.pth')
        compare = [sys.executable, '-m', 'aib_mm', 'compare', config.name]
        run(*compare, 'vanilla.pth', cwd=folder)
    mim, name = Path(sys.executable).with_name('mim'), mim_name('mmdet')
    alone = ['--gpus', '0', '--launcher', 'none']
    options = ['--cfg-options', *small_images()]
    train = [mim, 'train', name, config.name, *alone, '--work-dir', config.stem]
    output = run(*train, *options, *SHORT, cwd=folder)
    if 'load_from' in block:
        assert 'Load checkpoint from vanilla.pth' in output
        assert 'unexpected key' not in output
    checkpoint = f'{config.stem}/epoch_1.pth'
    test = [mim, 'test', name, config.name, '--checkpoint', checkpoint, *alone]
    one_stage = 'retinanet' in block
    options.append('model.test_cfg.score_thr=0.0' if one_stage else ANY_SCORE)
    assert 'coco/bbox_mAP' in run(*test, *options, cwd=folder)
