"""How much data a training uses: counted, and stopped at none."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bad_configs import BASES, last_line
from damaged_sets import CLASSES, write_set
from mmengine.config import Config
from mmengine.dataset import BaseDataset, RepeatDataset, pseudo_collate
from PIL import Image
from runner_logs import own_loggers
from torch.utils.data import ConcatDataset, DataLoader

from aib_mm.cli import train as program
from aib_mm.errors import DataError
from aib_mm.training.damaged_data import CheckSample
from aib_mm.training.used_data import UsedDataHook, why_empty


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    with own_loggers():
        yield


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(
        'aib_mm.training.used_data.print_log', lambda line, **_: found.append(line)
    )
    return found


class Samples(BaseDataset):
    """Samples that are given, with a filter that takes those without ``drop``."""

    def __init__(self, samples: list[dict], classes: Any = ('a', 'b'), **more: Any):
        self.samples = samples
        super().__init__(metainfo=dict(classes=classes), **more)

    def load_data_list(self) -> list[dict]:
        return [dict(sample) for sample in self.samples]

    def filter_data(self) -> list[dict]:
        return [one for one in self.data_list if not one.get('drop')]


def use(train: Any, batch_size: int = 1, drop_last: bool = False) -> None:
    """Begin a training on a data set."""
    loader = DataLoader(
        train, batch_size, drop_last=drop_last, collate_fn=pseudo_collate
    )
    loop = SimpleNamespace(dataloader=loader)
    UsedDataHook().before_train(SimpleNamespace(train_loop=loop, val_loop=None))


def boxes(*labels: int, **more: Any) -> dict:
    return dict(instances=[dict(bbox_label=label, **more) for label in labels])


def test_images_and_boxes_are_counted(lines: list[str]) -> None:
    crowd = dict(instances=[dict(bbox_label=1, ignore_flag=1)])
    use(Samples([boxes(0, 0), boxes(0), crowd, dict(drop=True)]))
    assert lines == [
        'train_dataloader: 3 images with 3 boxes in Samples',
        'train_dataloader: no box of b',
    ]


def test_each_set_is_counted_below_what_mixes_them(lines: list[str]) -> None:
    one, two = (Samples([dict(gt_label=i)] * (i + 1)) for i in (0, 1))
    use(ConcatDataset([RepeatDataset(one, times=3), two]))
    assert lines == [
        'train_dataloader: 1 image in Samples',
        'train_dataloader: no image of b',
        'train_dataloader: 2 images in Samples',
        'train_dataloader: no image of a',
    ]


@pytest.mark.parametrize(
    ('samples', 'message'),
    [
        ([boxes(), boxes()], 'none of the 2 images of Samples has a box .* are a, b'),
        ([boxes(1, ignore_flag=1)], 'none of the 1 images'),
        ([], 'Samples has no sample; it takes classes=a, b'),
        ([dict(drop=True)], 'Samples has no sample'),
    ],
)
def test_nothing_to_learn_from_is_an_error(samples: list[dict], message: str) -> None:
    with pytest.raises(DataError, match=f'train_dataloader: {message}'):
        use(Samples(samples, serialize_data=False))


def test_a_loader_without_a_batch_is_an_error() -> None:
    train = Samples([dict(gt_label=0)] * 3)
    use(train, batch_size=4)
    message = 'no batch: it has 3 images, batch_size=4 and drop_last=True; make batch'
    with pytest.raises(DataError, match=message):
        use(train, batch_size=4, drop_last=True)


def test_one_sample_must_get_past_the_check(tmp_path: Path) -> None:
    paths = [str(tmp_path / f'{i}.png') for i in range(3)]
    train = Samples(
        [dict(img_path=path) for path in paths], pipeline=[CheckSample('skip')]
    )
    with pytest.raises(DataError, match=r'none of the 3 images .*: all are damaged'):
        use(train)
    Image.new('L', (4, 4)).save(paths[2])
    use(train)


def test_one_mask_must_have_a_class() -> None:
    samples = [dict(gt_seg_map=np.full((2, 2), value)) for value in (255, 7)]
    train = Samples(samples, pipeline=[CheckSample(ignore_index=7)])
    with pytest.raises(DataError, match='all pixels of their masks are ignored'):
        use(train)
    train.data_list = []
    samples.append(dict(gt_seg_map=np.zeros((2, 2), int)))
    use(Samples(samples, pipeline=[CheckSample(ignore_index=7)]))


def test_where_an_empty_set_looked(tmp_path: Path) -> None:
    for name in ('a.tif', 'b.tif', 'c'):
        (tmp_path / name).touch()
    (tmp_path / 'list.txt').write_text('')
    prefix = dict(img_path=str(tmp_path), seg_map_path='no_folder')
    train = Samples(
        [dict(drop=True)] * 5,
        ann_file='list.txt',
        data_prefix=prefix,
        filter_cfg=dict(min_size=32),
        indices=[],
        lazy_init=True,
    )
    train.img_suffix = '.jpg'
    assert why_empty(train) == (
        'Samples of list.txt has no sample; its ann_file list.txt gives 5 samples '
        f'before filter_cfg; folder {tmp_path} has 4 files (2 .tif, 1 .txt, 1 no '
        "suffix); there is no folder no_folder; it takes img_suffix='.jpg', "
        "filter_cfg={'min_size': 32}, indices=[], classes=a, b"
    )


SETS = dict(
    detection="""
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    _delete_=True, type='CocoDataset', data_root={root!r}, ann_file='annotations.json',
    data_prefix=dict(img='images/'), metainfo=dict(classes={classes}),
    filter_cfg={filter}, pipeline=[dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]))
""",
    segmentation="""
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    _delete_=True, type='BaseSegDataset', data_root={root!r}, img_suffix='{suffix}',
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    metainfo=dict(classes={classes}), pipeline=[dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
""",
    classification="""
train_dataloader = dict(dataset=dict(
    _delete_=True, type='CustomDataset', data_root={root!r}, data_prefix='images',
    extensions=['{suffix}'], metainfo=dict(classes={classes}),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
""",
)
KINDS = dict(detection='coco', segmentation='masks', classification='folder')


def train(task: str, root: Path, monkeypatch: Any, capsys: Any, **values: Any) -> str:
    """Last line of ``train.py`` on a damaged set; it must end with exit code 2."""
    pytest.importorskip(Config.fromfile(BASES[task]).default_scope)
    monkeypatch.chdir(root)
    monkeypatch.setenv('LOCAL_RANK', '0')
    given = dict(root=str(root), classes=CLASSES, suffix='.jpg', filter=None)
    text = f'_base_ = [{str(BASES[task])!r}]' + SETS[task].format(**{**given, **values})
    path = root / f'{root.name}.py'
    path.write_text(text)
    assert program.main([str(path), '--no-validate', '--work-dir', str(root)]) == 2
    said = capsys.readouterr().err
    assert 'Traceback' not in said
    return last_line(said)


@pytest.mark.parametrize(
    ('task', 'values', 'words'),
    [
        ('detection', dict(classes=('a', 'b')), ('cat, dog, owl', 'a, b', 'no box')),
        (
            'detection',
            dict(filter=dict(min_size=99)),
            ('annotations.json gives 6 samples', "{'min_size': 99}", 'cat, dog, owl'),
        ),
        (
            'segmentation',
            dict(suffix='.png'),
            ('has 6 files (6 .jpg)', "'.png'", 'cat'),
        ),
        ('classification', dict(suffix='.png'), ('6 files (6 .jpg)', "('.png',)")),
    ],
)
def test_the_command_says_why_there_is_nothing(
    task: str,
    values: dict,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_set(KINDS[task], tmp_path)
    said = train(task, tmp_path, monkeypatch, capsys, **values)
    assert all(re.search(re.escape(word), said) for word in words), said
