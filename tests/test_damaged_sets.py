"""Damaged sets through the data check of a training: named, and never trained on."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from attention_files import write_model
from damaged_sets import CLASSES, COUNT, KINDS, LIST, VARIANTS, Variant, write_set
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from runner_logs import own_loggers

from aib_mm import register
from aib_mm.apis import AttentionInferencer
from aib_mm.cli.visualize_attention import main
from aib_mm.diagnosis.configs import load_config
from aib_mm.diagnosis.explain import USERS_ERRORS, explained
from aib_mm.experiments import look
from aib_mm.training.start import check_training_data
from aib_mm.training.used_data import UsedDataHook

SCOPES = dict(
    coco='mmdet',
    masks='mmseg',
    folder='mmpretrain',
    list='mmpretrain',
    cifar='mmpretrain',
)
LOAD = dict(type='LoadImageFromFile')
#: Every twelfth variant is tried by default, and every one where slow tests are.
TRIED = [
    pytest.param(variant, id=variant.id, marks=[pytest.mark.slow] * bool(number % 12))
    for number, variant in enumerate(VARIANTS)
]


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    with own_loggers():
        yield


def dataset(kind: str, root: Path) -> dict[str, Any]:
    """Config of a set of three classes (CIFAR's ten) in a folder."""
    metainfo = dict(classes=CLASSES)
    if kind == 'coco':
        steps = [
            LOAD,
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs'),
        ]
        return dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file='annotations.json',
            data_prefix=dict(img='images/'),
            metainfo=metainfo,
            filter_cfg=dict(filter_empty_gt=True, min_size=8),
            pipeline=steps,
        )
    if kind == 'masks':
        steps = [LOAD, dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
        return dict(
            type='BaseSegDataset',
            data_root=str(root),
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            metainfo=metainfo,
            pipeline=steps,
        )
    if kind == 'cifar':
        return dict(
            type='unchecked_cifar.UncheckedCIFAR10',
            data_root=str(root),
            split='train',
            download=False,
            pipeline=[dict(type='PackInputs')],
        )
    return dict(
        type='CustomDataset',
        data_root=str(root),
        data_prefix='images',
        ann_file=LIST if kind == 'list' else '',
        metainfo=metainfo,
        pipeline=[LOAD, dict(type='PackInputs')],
    )


def config(kind: str, root: Path) -> Config:
    """What of a training's config concerns the data."""
    pytest.importorskip(SCOPES[kind])
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset(kind, root),
    )
    cfg = Config(dict(default_scope=SCOPES[kind], train_dataloader=loader))
    if kind == 'cifar':
        cfg.custom_imports = dict(imports=['unchecked_cifar'])
    register(cfg)
    return cfg


def check(cfg: Config, on_damage: str) -> list[Any]:
    """The samples of an epoch, after all that ``train.py`` does before and in it."""
    of_file = Config(cfg.to_dict())
    with DefaultScope.overwrite_default_scope(cfg.default_scope), explained(of_file):
        check_training_data(cfg, on_damage)
        loader = Runner.build_dataloader(cfg.train_dataloader)
        loops = SimpleNamespace(train_loop=SimpleNamespace(dataloader=loader))
        UsedDataHook().before_train(SimpleNamespace(**vars(loops), val_loop=None))
        return [
            (image, sample)
            for batch in loader
            for image, sample in zip(
                batch['inputs'], batch['data_samples'], strict=True
            )
        ]


def teaches(kind: str, image: Any, sample: Any) -> bool:
    """Whether a loss can be computed from a packed sample, and means something."""
    if image.ndim != 3 or image.shape[0] != 3 or not np.isfinite(image.numpy()).all():
        return False
    if kind == 'coco':
        found = sample.gt_instances
        corners = found.bboxes.numpy()
        size = np.array(image.shape[:0:-1])
        inside = (corners[:, :2] < size).all() and (corners[:, 2:] > 0).all()
        labels = found.labels.numpy()
        return np.isfinite(corners).all() and inside and (labels < 3).all()
    if kind == 'masks':
        mask = sample.gt_sem_seg.data.numpy()
        values = set(np.unique(mask).tolist())
        return mask.shape == (1, *image.shape[1:]) and values <= {0, 1, 2, 255}
    return 0 <= sample.gt_label.item() < (10 if kind == 'cifar' else 3)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('on_damage', ['stop', 'skip'])
def test_a_whole_set_is_used_whole(kind: str, on_damage: str, tmp_path: Path) -> None:
    write_set(kind, tmp_path)
    samples = check(config(kind, tmp_path), on_damage)
    assert len(samples) == (20 if kind == 'cifar' else COUNT)
    assert all(teaches(kind, *one) for one in samples)


@pytest.mark.parametrize('on_damage', ['stop', 'skip'])
@pytest.mark.parametrize('variant', TRIED)
def test_a_damaged_set_is_named_or_passed_over(
    variant: Variant, on_damage: str, tmp_path: Path
) -> None:
    write_set(variant.kind, tmp_path)
    variant.damage(tmp_path)
    cfg = config(variant.kind, tmp_path)
    if variant.stops or (variant.named and on_damage == 'stop'):
        with pytest.raises(USERS_ERRORS) as error:
            check(cfg, on_damage)
        # Where damage is passed over, what is left may fail in its own words.
        said = str(error.value)
        assert on_damage == 'skip' or all(words in said for words in variant.named)
        return
    samples = check(cfg, on_damage)
    assert len(samples) >= COUNT - 1
    assert all(teaches(variant.kind, *one) for one in samples)


@pytest.fixture(scope='module')
def inferencers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small model of each kind, loaded once."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        cfg = load_config(write_model(SCOPES[kind], folder)[0], {})
        test_set = cfg.test_dataloader.dataset
        if kind == 'masks':
            resize = dict(type='Resize', scale=(64, 64), keep_ratio=False)
            load = dict(type='LoadAnnotations')
            test_set.pipeline = [LOAD, resize, load, dict(type='PackSegInputs')]
        elif kind in ('folder', 'list'):
            test_set.pipeline = [LOAD, dict(type='PackInputs')]
        path = folder / f'{SCOPES[kind]}.pth'
        found[kind] = AttentionInferencer(cfg, str(path))
    return found


def read_all(
    variant: Variant, root: Path, inferencers: dict[str, Any], patch: Any
) -> tuple[int, dict[str, Any]]:
    """Exit code and results of ``visualize_attention.py --split train``."""
    inferencer = inferencers[variant.kind]
    inferencer.cfg.train_dataloader = dict(dataset=dataset(variant.kind, root))
    patch.setattr(look, '_build', lambda options: inferencer)
    out = root / 'looked'
    code = main(['config.py', 'weights.pth', '--split', 'train', '--out', str(out)])
    page = out / 'index.html'
    assert page.is_file() == (out / 'results.json').is_file()
    return code, json.loads((out / 'results.json').read_text()) if code < 2 else {}


@pytest.mark.parametrize('variant', TRIED)
def test_a_damaged_set_is_looked_at(
    variant: Variant,
    inferencers: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback, and the other images are not lost."""
    write_set(variant.kind, tmp_path)
    variant.damage(tmp_path)
    code, results = read_all(variant, tmp_path, inferencers, monkeypatch)
    said = capsys.readouterr().err
    assert 'Traceback' not in said
    if code == 2:
        assert variant.stops and said.startswith('visualize_attention.py: error: ')
        return
    seen, failed = results['images'], results['failures']
    assert code == int(bool(failed))
    assert all(row['name'] in said for row in failed)
    if not variant.stops:
        assert len(seen) >= COUNT - 1 - (variant.kind == 'coco')
