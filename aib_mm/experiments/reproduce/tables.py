"""What each table of the paper trains, on which data, and the paper's own figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.fileio import load

from aib_mm.experiments.grid.results import Measure, metric, top1_error

#: Whose maps Table 8 compares.
_MAPS = ('vgg_att3', 'vgg_aib', 'vgg_aib_qt', 'wrn_abn', 'wrn_aib', 'wrn_aib_qt')


@dataclass(frozen=True)
class Part:
    """What a table has on one data set.

    Attributes:
        name: name of the data in ``data.SETS``, and of the folder of the runs.
        grid: grid file below ``configs/``.
        narrow: grid file with narrow models, under the same names.
        columns: columns that the tests fill; the keys are those of ``paper.yml``.
        only: rows of the grid that the table has; empty for all.
        trained_on: part whose trained models are tested here; empty to train here.
        narrow_options: what a narrow model needs of the rest of the config, as
            ``--cfg-options`` takes it.
    """

    name: str
    grid: str
    narrow: str
    columns: tuple[Measure, ...]
    only: tuple[str, ...] = ()
    trained_on: str = ''
    narrow_options: tuple[str, ...] = ()


def _classifiers(
    table: str, data: str, column: str, trained_on: str = '', only: tuple = ()
) -> Part:
    grids = 'mmpretrain/grids'
    return Part(
        data,
        f'{grids}/{table}_{trained_on or data}.py',
        f'{grids}/{table}_digitscenes.py',
        (Measure(column, column, 2, top1_error, 'top-1 error, %'),),
        only,
        trained_on,
    )


_SEGMENTATION = Part(
    'ade20k',
    'mmseg/grids/table6_ade20k.py',
    'mmseg/grids/table6_digitscenes.py',
    (Measure('mIoU', 'ADE20K', 2, metric('mIoU'), 'mIoU, %'),),
    narrow_options=(
        'model.decode_head.loss_decode.class_weight=None',
        'model.auxiliary_head.loss_decode.class_weight=None',
        'model.test_cfg.mode=slide',
        'model.test_cfg.crop_size=(64,64)',
        'model.test_cfg.stride=(42,42)',
        'train_dataloader.dataset.pipeline.2.scale=(256,64)',
        'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
        'val_dataloader.dataset.pipeline.1.scale=(256,64)',
        'test_dataloader.dataset.pipeline.1.scale=(256,64)',
    ),
)
_DETECTION = Part(
    'coco',
    'mmdet/grids/table7_coco.py',
    'mmdet/grids/table7_digitscenes.py',
    tuple(
        Measure(key, f'COCO {key}', 1, metric(f'coco/bbox_{name}', 100), 'box AP, %')
        for key, name in (('mAP', 'mAP'), ('mAP@50', 'mAP_50'), ('mAP@75', 'mAP_75'))
    ),
    narrow_options=(
        'train_dataloader.dataset.pipeline.2.scale=(256,160)',
        'val_dataloader.dataset.pipeline.1.scale=(256,160)',
        'test_dataloader.dataset.pipeline.1.scale=(256,160)',
    ),
)

#: The parts of each table; those that only test come after what they test.
TABLES: Mapping[str, Sequence[Part]] = {
    '2': (
        _classifiers('table2', 'cifar10', 'CIFAR-10'),
        _classifiers('table2', 'cifar100', 'CIFAR-100'),
    ),
    '5': (
        _classifiers('table5', 'cifar10', 'CIFAR-10'),
        _classifiers('table5', 'cifar100', 'CIFAR-100'),
        _classifiers('table5', 'cub', 'CUB-200-2011'),
        _classifiers('table5', 'svhn', 'SVHN'),
        _classifiers('table5', 'STL10-train', 'STL10-train', 'cifar10'),
        _classifiers('table5', 'STL10-test', 'STL10-test', 'cifar10'),
    ),
    '6': (_SEGMENTATION,),
    '7': (_DETECTION,),
    '8': (
        _classifiers('table5', 'cifar10', 'CIFAR-10', only=_MAPS),
        _classifiers('table5', 'cifar100', 'CIFAR-100', only=_MAPS),
    ),
    'fig6': (_classifiers('fig6', 'cifar10', 'CIFAR-10'),),
}


def folder_of(table: str) -> str:
    """Name of a table in file names and in ``paper.yml``: ``'table5'``, ``'fig6'``."""
    return table if table.startswith('fig') else f'table{table}'


def paper_figures(table: str) -> Mapping[str, Mapping[str, float]]:
    """The paper's figures of a table: column, then row of the grid."""
    return load(Path(__file__).with_name('paper.yml'))[folder_of(table)]
