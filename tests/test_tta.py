"""Test-time augmentation: what is merged, what is not, and every narrow config."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from shipped_configs import PATHS

from aib_mm.cli import test as test_program
from aib_mm.entropy import OF_ONE_PASS
from aib_mm.hooks import MergedFieldsHook
from aib_mm.interpret import AttentionFieldsHook

NARROW = [path for path in PATHS if 'narrow' in path.stem]


def classifier() -> torch.nn.Module:
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='VGGBlocks', blocks=(1,), width=1 / 8),
        neck=dict(type='AIBAttention', in_channels=8, std_shift=0.0),
        head=dict(
            type='AIBClsHead',
            num_classes=3,
            latent_dim=4,
            adaptive=dict(),
            encoder=dict(type='GaussianEncoder', in_features=8),
        ),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(ConfigDict(model)).eval()


@pytest.mark.parametrize('kind', [MergedFieldsHook, AttentionFieldsHook])
def test_a_merged_prediction_has_no_field_of_one_view(kind: type) -> None:
    pytest.importorskip('mmpretrain')
    from mmpretrain.models.tta import AverageClsScoreTTA
    from mmpretrain.structures import DataSample

    model = classifier()
    runner = SimpleNamespace(model=AverageClsScoreTTA(module=model))
    views = dict(inputs=[[torch.rand(3, 8, 8)] for _ in range(2)])
    views['data_samples'] = [[DataSample()] for _ in range(2)]
    hook = kind()

    def fields() -> set[str]:
        for view in views['data_samples']:
            view[0] = DataSample()
        with torch.no_grad():
            return set(runner.model.test_step(views)[0].keys())

    assert set(OF_ONE_PASS) < fields()  # what the hook is for
    hook.before_test(runner)
    assert fields() == {'pred_score'}
    hook.after_test(runner)
    assert not model._forward_hooks
    # A prediction of one pass keeps them.
    plain = SimpleNamespace(model=model)
    hook.before_test(plain)
    with torch.no_grad():
        sample = model(torch.rand(1, 3, 8, 8), mode='predict')[0]
    hook.after_test(plain)
    assert set(OF_ONE_PASS) < set(sample.keys())


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small ``data/digitscenes``."""
    from aib_mm.cli.digit_scenes import main

    folder = tmp_path_factory.mktemp('user')
    counts = dict(train=20, test=20, scenes_train=2, scenes_val=4)
    options = [f'--{name.replace("_", "-")}={n}' for name, n in counts.items()]
    out = str(folder / 'data/digitscenes')
    assert main(['--out', out, '--workers', '1', *options]) == 0
    return folder


def save_weights(config: Path, path: Path) -> None:
    cfg = Config.fromfile(config)
    if cfg.get('data_preprocessor') is not None:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), path)


@pytest.mark.slow
@pytest.mark.parametrize('config', NARROW, ids=lambda path: path.stem)
def test_every_narrow_config(
    config: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(config.parent.name)
    monkeypatch.chdir(scenes)
    save_weights(config, Path('random.pth'))
    out = ['--out', 'metrics.json', '--out-item', 'metrics', '--work-dir', 'work']
    assert test_program.main([str(config), 'random.pth', '--tta', *out]) == 0
    metrics = json.loads(Path('metrics.json').read_text())
    assert metrics and all(map(math.isfinite, metrics.values()))
    # Of one pass only, so that there is nothing to tell.
    assert not [name for name in metrics if name.startswith(('attention/', 'latent/'))]


@pytest.mark.slow
@pytest.mark.parametrize(
    'config',
    [
        'mmpretrain/vgg16-narrow_aib_digitscenes.py',
        'mmseg/upernet_beit-narrow_aib_digitscenes.py',
    ],
)
def test_the_truth_is_that_of_the_image_as_it_is(
    config: str, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(config.split('/')[0])
    from mmengine.registry import DATASETS

    monkeypatch.chdir(scenes)
    torch.save(dict(state_dict={}), 'any.pth')
    path = PATHS[0].parents[1] / config
    arguments = [str(path), 'any.pth']
    parse = test_program.make_parser().parse_args
    plain = test_program.configure(parse(arguments))
    augmented = test_program.configure(parse([*arguments, '--tta']))
    with DefaultScope.overwrite_default_scope(plain.default_scope):
        (one, views) = (
            DATASETS.build(cfg.test_dataloader.dataset)[3] for cfg in (plain, augmented)
        )
    assert len(views['inputs']) == 2
    assert not torch.equal(*views['inputs'])
    for sample in views['data_samples']:
        if 'gt_sem_seg' in sample:
            expected = one['data_samples'].gt_sem_seg.data
            assert torch.equal(sample.gt_sem_seg.data, expected)
        else:
            assert np.array_equal(sample.gt_seg_map, one['data_samples'].gt_seg_map)
            assert sample.gt_seg_map.any()
