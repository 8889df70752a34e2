"""tools/localization.py: its figures, its files, what it repeats and refuses."""

import importlib.util
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import map_models
import numpy as np
import pytest
import reference
import torch
from cifar_files import write_cifar10
from map_models import (
    assert_refused,
    build,
    figures_of,
    stdout_of,
    write_models,
)
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor, nn

from aib_mm.cli import localization
from aib_mm.experiments.maps.model import Look, MapModel
from aib_mm.interpret import record_attention
from aib_mm.interpret.measure.edits import generator_for
from aib_mm.interpret.measure.faithfulness import (
    curve_area,
    deletion_curve,
    insertion_curve,
)
from aib_mm.interpret.measure.localization import dilate
from aib_mm.interpret.record.baselines import center_map, random_map
from aib_mm.interpret.record.geometry import resize_map
from aib_mm.interpret.ties import ROUNDING

TESTS = Path(__file__).parent
TOOL = TESTS.parent / 'tools' / 'localization.py'
IMAGES = 12

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('mmpretrain') is None, reason='needs mmpretrain'
)

MASKS = """
_pipeline = [
    dict(type='map_files.SquareMask'),
    dict(type='PackInputs', algorithm_keys=('gt_seg_map',)),
]
test_dataloader = dict(dataset=dict(pipeline=_pipeline))
"""
NO_MASKS = """
test_dataloader = dict(dataset=dict(pipeline=[dict(type='PackInputs')]))
"""
AIB = ('--model', 'aib.py', 'aib0.pth')
VANILLA = ('--model', 'vanilla.py', 'vanilla0.pth')
CHEAP = ('--steps', '4', '--maps', 'attention', 'center', 'random')


@pytest.fixture(scope='module')
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CIFAR files, configs, and checkpoints of random weights."""
    folder = tmp_path_factory.mktemp('user')
    write_cifar10(folder / 'data', train_per_batch=2, test=IMAGES)
    write_models(
        folder, dict(vanilla=MASKS, aib=MASKS + map_models.AIB, maskless=NO_MASKS)
    )
    return folder


@pytest.fixture
def run(user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """The program, in the user's folder; gives the JSON of a run."""
    monkeypatch.chdir(user)

    def run(*arguments: str, out: Path = tmp_path / 'out') -> dict[str, Any]:
        return figures_of(localization, arguments, out)

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """Map and number of images of every batch, without the trials on the first."""
    calls: list[tuple[str, int]] = []
    look = MapModel.look

    def spy(self: MapModel, name: str, batch: dict, indices: list[int]) -> Look:
        if len(indices) > 1:
            calls.append((name, len(indices)))
        return look(self, name, batch, indices)

    monkeypatch.setattr(MapModel, 'look', spy)
    yield calls


def expected(user: Path, steps: int) -> dict[str, dict[str, float]]:
    """Every figure of the first aib checkpoint, image by image, by the equations."""
    cfg = Config.fromfile(user / 'aib.py')
    model = build(user / 'aib.py').eval()
    model.load_state_dict(torch.load(user / 'aib0.pth')['state_dict'])
    for part in (model.neck, model.head):
        part.test_samples = 0
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    figures: dict[str, list[dict]] = dict(attention=[], center=[], random=[])
    for index, item in enumerate(dataset):
        data = model.data_preprocessor(pseudo_collate([item]), False)
        with record_attention(model) as record, torch.no_grad():
            scores = model(data['inputs']).softmax(dim=1)
        (((maps,),),) = record.values()
        mask = torch.from_numpy(item['data_samples'].gt_seg_map > 0)
        for name, attention in (
            ('attention', resize_map(maps.mean, (32, 32))[0]),
            ('center', center_map((32, 32))),
            ('random', random_map((32, 32), generator_for(0, 'random', index))),
        ):
            one = figures[name]
            one.append(faithful(model, data['inputs'], attention, scores, steps))
            if mask.any():
                peak = attention >= attention.max() * (1 - ROUNDING)
                near = dilate(mask[None], 1)[0]
                one[-1] |= dict(
                    energy=reference.energy(attention, mask),
                    iou=reference.iou(attention, mask, 0.5, ROUNDING),
                    pointing=(peak & near).sum().item() / peak.sum().item(),
                )
    return {
        name: {
            key: np.mean([f[key] for f in found if key in f])
            for key in ('energy', 'pointing', 'iou', 'insertion', 'deletion')
        }
        for name, found in figures.items()
    }


def faithful(
    model: nn.Module, image: Tensor, attention: Tensor, scores: Tensor, steps: int
) -> dict[str, float]:
    def predict(images: Tensor) -> Tensor:
        return model(images).softmax(dim=1)

    arguments = (predict, image, attention[None], 0.0, scores.argmax(dim=1), steps)
    return dict(
        insertion=curve_area(insertion_curve(*arguments)).item(),
        deletion=curve_area(deletion_curve(*arguments)).item(),
    )


def test_figures_are_those_of_the_parts(run: Callable, user: Path) -> None:
    found = run(*AIB, *CHEAP)
    (checkpoint,) = found['models']['aib']
    assert checkpoint['images'] == IMAGES
    # Without the images of class 9 an object covers 64 of 1024 pixels.
    assert 0 < checkpoint['without_object'] < IMAGES
    assert checkpoint['area'] == 64 / 1024
    parts = expected(user, steps=4)
    assert list(checkpoint['maps']) == list(parts) == ['attention', 'center', 'random']
    for name, figures in parts.items():
        for key, value in figures.items():
            assert checkpoint['maps'][name][key] == pytest.approx(value, abs=2e-5), key


def test_rows_are_models_and_maps_with_mean_and_spread(
    run: Callable, tmp_path: Path
) -> None:
    found = run(*AIB, 'aib1.pth', *VANILLA, *CHEAP, '--title', 'aib=VGG-aib')
    text = (tmp_path / 'out' / 'localization.md').read_text()
    table = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|')
    ]
    assert table[0] == [
        'model',
        'map',
        'energy on object %',
        'pointing game %',
        'IoU %',
        'insertion %',
        'deletion %',
    ]
    # A model without attention has no such row.
    assert [row[:2] for row in table[2:]] == [
        ['VGG-aib', 'attention (AIBAttention)'],
        ['VGG-aib', 'center'],
        ['VGG-aib', 'random'],
        ['vanilla', 'center'],
        ['vanilla', 'random'],
    ]
    shares = [100 * c['maps']['attention']['iou'] for c in found['models']['VGG-aib']]
    assert table[2][4] == f'{np.mean(shares):.2f} ± {np.std(shares, ddof=1):.2f}'
    assert 'Objects cover 6.25 %' in text and '12 images, seed 0' in text
    # Maps that see neither model nor class lie where they lie.
    for key in ('energy', 'pointing', 'iou'):
        ours = found['models']['VGG-aib'][0]['maps']['random'][key]
        assert ours == found['models']['vanilla'][0]['maps']['random'][key]


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(
    run: Callable, asked: list, tmp_path: Path
) -> None:
    first = run(*AIB, *CHEAP)
    assert [name for name, _ in asked] == ['attention', 'center', 'random']
    for arguments, names in (
        ((), []),
        (('--batch', '6'), []),
        (('--seed', '1'), ['attention', 'center', 'random']),
        (('--images', '9'), ['attention', 'center', 'random']),
        (('--threshold', '0.2'), ['attention', 'center', 'random']),
        (('--level', '0'), ['attention']),
        (('--force', '--maps', 'center'), ['center']),
    ):
        asked.clear()
        run(*AIB, *CHEAP, *arguments)
        assert [name for name, _ in asked] == names, arguments
    asked.clear()
    assert run(*AIB, *CHEAP)['models'] == first['models']
    # A file that was cut short is no result.
    (kept, *_) = (tmp_path / 'out' / 'measured').glob('aib-random-*.npz')
    kept.write_bytes(kept.read_bytes()[:100])
    assert run(*AIB, *CHEAP)['models'] == first['models']


def test_a_killed_run_goes_on(
    run: Callable, asked: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*AIB, 'aib1.pth', *CHEAP, '--batch', '6')
    whole = run(*options, out=tmp_path / 'whole')
    asked.clear()
    spy = MapModel.look

    def killed(self: MapModel, name: str, batch: dict, indices: list[int]) -> Look:
        if len(asked) == 3:  # in the second half of the second map
            raise SystemExit
        return spy(self, name, batch, indices)

    monkeypatch.setattr(MapModel, 'look', killed)
    with pytest.raises(SystemExit):
        run(*options)
    monkeypatch.setattr(MapModel, 'look', spy)
    asked.clear()
    assert run(*options)['models'] == whole['models']
    # Two checkpoints of three maps each, less the one that was done.
    assert len(asked) == 10
    tables = [
        (tmp_path / out / 'localization.md').read_text().splitlines()[:8]
        for out in ('whole', 'out')
    ]
    assert tables[0] == tables[1]


def test_figures_do_not_depend_on_the_batch(
    run: Callable, asked: list, tmp_path: Path
) -> None:
    one = run(*AIB, *CHEAP, '--batch', '12', out=tmp_path / 'one')
    several = run(*AIB, *CHEAP, '--batch', '5', out=tmp_path / 'several')
    assert ('attention', 5) in asked
    for name, figures in one['models']['aib'][0]['maps'].items():
        others = several['models']['aib'][0]['maps'][name]
        for key, value in figures.items():
            same = value if key == 'title' else pytest.approx(value, abs=1e-5)
            assert others[key] == same


def test_without_any_object_there_is_no_figure(
    run: Callable, user: Path, tmp_path: Path
) -> None:
    path = user / 'nothing.py'
    mask = dict(type='map_files.SquareMask')
    path.write_text(
        f"_base_ = 'aib.py'\n_pipeline = [{mask}, dict(type='PackInputs',"
        " algorithm_keys=('gt_seg_map',))]\n"
        "test_dataloader = dict(dataset=dict(type='map_files.Nines',"
        ' pipeline=_pipeline))\n'
    )
    found = run('--model', 'nothing.py', 'aib0.pth', *CHEAP)
    (checkpoint,) = found['models']['nothing']
    assert checkpoint['without_object'] == checkpoint['images'] == IMAGES
    figures = checkpoint['maps']['center']
    assert figures['iou'] is figures['energy'] is checkpoint['area'] is None
    assert not math.isnan(figures['insertion'])
    assert '| center | – | – | – |' in (tmp_path / 'out/localization.md').read_text()


def test_baselines_of_the_libraries_have_rows(run: Callable) -> None:
    pytest.importorskip('pytorch_grad_cam')
    pytest.importorskip('captum')
    maps = ('GradCAM', 'GradCAMPlusPlus', 'occlusion')
    ours = ('gradcam:backbone.layer2', 'features:backbone', 'occlusion')
    options = ('--steps', '4', '--window', '16')
    chosen = (*maps, *(f'aib={name}' for name in ours))
    found = run(*VANILLA, *AIB, *options, '--maps', *chosen)
    for name, (checkpoint,) in found['models'].items():
        assert list(checkpoint['maps']) == [*(ours if name == 'aib' else maps)]
        for figures in checkpoint['maps'].values():
            assert all(0 <= figures[key] <= 1 for key in ('energy', 'iou', 'deletion'))
    figures_of_ours = found['models']['aib'][0]['maps']
    assert len({str(figures) for figures in figures_of_ours.values()}) == 3


def test_the_command_itself(user: Path, tmp_path: Path) -> None:
    out = ('--images', '3', '--out', tmp_path / 'out')
    printed = stdout_of(TOOL, *AIB, *CHEAP, *out, cwd=user)
    assert 'aib, aib0.pth: center measured' in printed


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--model', 'aib.py'], r'--model aib\.py needs a checkpoint behind'),
        ([*AIB, '--title', 'abi=X'], r"--title takes NAME=TITLE .*got 'abi=X'"),
        (
            [*AIB, '--maps', 'x=center'],
            r"--maps takes NAME=VALUE with NAME one of \['aib'\], got 'x=center'",
        ),
        (
            [*AIB, '--maps', 'centre'],
            r"aib\.py: source must be one of att.*'centre'; maps are also occlu",
        ),
        (['--model', 'aib.py', 'absent.pth'], r'absent\.pth does not exist'),
        ([*AIB, '--threshold', '50'], r'--threshold must be in \[0, 1\], got 50'),
        ([*AIB, '--steps', '2000'], r'aib\.py: steps must be at most the 1024'),
        ([*VANILLA, '--maps', 'attention'], r'vanilla\.py has no attention; name oth'),
        (
            ['--model', 'maskless.py', 'vanilla0.pth', '--maps', 'center'],
            r"maskless\.py: a data sample has no 'gt_seg_map': .*algorithm_keys",
        ),
        (
            [*AIB, '--maps', 'occlusion', '--window', '40'],
            r'aib\.py: a window of 40×40 pixels does not fit into 32×32',
        ),
        ([*AIB, '--level', '3'], r'level must be less than 1.*got 3'),
    ],
)
def test_users_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    user: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(user)
    rest = [] if '--maps' in arguments else ['--maps', 'attention', 'center']
    arguments = [*arguments, *rest]
    assert_refused(localization, arguments, message, tmp_path / 'out', capsys)


@pytest.mark.parametrize(
    ('name', 'module', 'package'),
    [
        ('GradCAM', 'pytorch_grad_cam', 'grad-cam'),
        ('occlusion', 'captum.attr', 'captum'),
    ],
)
def test_missing_libraries_are_named(
    name: str,
    module: str,
    package: str,
    user: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(user)
    monkeypatch.setitem(sys.modules, module, None)
    assert localization.main([*VANILLA, '--maps', name, '--out', str(tmp_path)]) == 2
    assert re.search(rf'vanilla\.py: .* install {package}', capsys.readouterr().err)
