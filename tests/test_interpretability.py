"""tools/interpretability.py: its figures, its files, what it repeats and refuses."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import map_models
import numpy as np
import pytest
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
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from aib_mm.cli import interpretability
from aib_mm.cli.map_options import SOURCES
from aib_mm.experiments.maps.model import Look, MapModel, level_of, trained_model
from aib_mm.experiments.maps.subjects import read_arrays, write_arrays
from aib_mm.interpret import AttentionFieldsHook, record_attention
from aib_mm.interpret.measure.consistency import NORMALIZATIONS, map_similarity
from aib_mm.interpret.measure.edits import (
    FITS,
    ColorBlock,
    Edit,
    Frequencies,
    Patch,
    generator_for,
)
from aib_mm.interpret.record.class_activation import METHODS, class_activation
from aib_mm.utils.libraries import MissingLibraryError

TESTS = Path(__file__).parent
TOOL = TESTS.parent / 'tools' / 'interpretability.py'
IMAGES = 12

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('mmpretrain') is None, reason='needs mmpretrain'
)
needs_grad_cam = pytest.mark.skipif(
    importlib.util.find_spec('pytorch_grad_cam') is None, reason='needs grad-cam'
)

CONFIGS = {
    'vanilla': '',
    'aib': map_models.AIB,
    'att2': """
model = dict(
    backbone=dict(out_indices=(2, 3)),
    neck=dict(_delete_=True, type='LocalAttention', in_channels=(16, 32)),
    head=dict(in_channels=48),
)
custom_hooks = [dict(type='AttentionFieldsHook', level=0)]
""",
    'labels': """
model = dict(
    head=dict(
        _delete_=True, type='MultiLabelLinearClsHead', num_classes=10, in_channels=32
    ),
)
""",
    'bgr': """
model = dict(data_preprocessor=dict(to_rgb=True))
test_dataloader = dict(dataset=dict(split='train'))
""",
}


@pytest.fixture(scope='module')
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CIFAR files, configs, and checkpoints of random weights."""
    folder = tmp_path_factory.mktemp('user')
    write_cifar10(folder / 'data', train_per_batch=2, test=IMAGES)
    write_models(folder, CONFIGS)
    return folder


@pytest.fixture
def run(user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """The program, in the user's folder; gives the JSON of a run."""
    monkeypatch.chdir(user)

    def run(*arguments: str, out: Path = tmp_path / 'out') -> dict[str, Any]:
        return figures_of(interpretability, arguments, out)

    return run


AIB = ('--model', 'aib.py', 'aib0.pth')
ATT2 = ('--model', 'att2.py', 'att20.pth')
TWO = ('--sizes', '8', '--high', '4', '--low')


def expected(user: Path, name: str, number: int, edit: Edit, level: int = 0) -> dict:
    """Classes and similarities of a model, image by image, without the program."""
    cfg = Config.fromfile(user / f'{name}.py')
    model = build(user / f'{name}.py').eval()
    model.load_state_dict(torch.load(user / f'{name}{number}.pth')['state_dict'])
    for part in (model.neck, model.head):
        part.test_samples = 0
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        from mmpretrain.registry import DATASETS

        dataset = DATASETS.build(cfg.test_dataloader.dataset)

    def look(image: Tensor) -> tuple[int, Tensor]:
        data = model.data_preprocessor(dict(inputs=[image]), False)
        with record_attention(model) as record, torch.no_grad():
            (sample,) = model(data['inputs'], mode='predict')
        ((maps,),) = record.values()
        return int(sample.pred_label), maps[level].mean

    same, similarity = [], []
    for index in range(len(dataset)):
        image = dataset[index]['inputs'].float()
        before = look(image)
        after = look(edit(image, generator_for(0, edit.name, index)))
        same.append(before[0] == after[0])
        similarity.append(map_similarity(before[1], after[1]).item())
    return dict(same=np.array(same), similarity=np.array(similarity))


@pytest.mark.parametrize('name', ['aib', 'att2'])
def test_figures_are_those_of_the_parts(name: str, user: Path, run: Callable) -> None:
    model = ('--model', f'{name}.py', f'{name}0.pth')
    found = run(*model, *TWO, '--threshold', '0.9', '0.99')
    (checkpoint,) = found['models'][name]
    assert list(checkpoint['edits']) == ['color p=8', 'r > 4']
    changed = 0
    for edit in (ColorBlock(8), Frequencies(4.0, high=True)):
        figures = checkpoint['edits'][edit.name]
        parts = expected(user, name, 0, edit)
        same, similarity = parts['same'], parts['similarity']
        assert figures['prediction_consistent'] == same.mean()
        kept = similarity[same]
        for threshold in (0.9, 0.99):
            score = figures['score'][str(threshold)]
            assert score == pytest.approx((kept >= threshold).mean())
        assert figures['area'] == pytest.approx(kept.mean(), abs=1e-5)
        assert figures['curve'][90] == figures['score']['0.9']
        changed += (~same).sum()
    # Else the share of consistent predictions would say nothing.
    assert changed > 0 or name != 'aib'


def test_the_table_has_the_papers_layout(run: Callable, tmp_path: Path) -> None:
    found = run(
        *AIB,
        *ATT2,
        '--patches-from',
        'bgr.py',
        '--title',
        'aib=WRN-aib',
        '--batch',
        '5',
    )
    columns = [f'{kind} p={p}' for kind in ('color', 'patch') for p in (4, 8, 12, 16)]
    columns += ['r > 4', 'r < 12']
    assert list(found['models']) == ['WRN-aib', 'att2']
    text = (tmp_path / 'out' / 'interpretability.md').read_text()
    for title, head in (
        ('Interpretability score, %, threshold 0.9', ['model', *columns]),
        ('Area under the score over all thresholds, %', ['model', *columns]),
        ('Consistent predictions, %', ['model', 'accuracy', *columns]),
    ):
        table = text[text.index(f'**{title}**') :].split('\n\n')[1].splitlines()
        cells = [[c.strip() for c in line.strip('|').split('|')] for line in table]
        assert cells[0] == head
        assert [row[0] for row in cells[2:]] == ['WRN-aib', 'att2']
        assert all(0 <= float(cell) <= 100 for row in cells[2:] for cell in row[1:])
    assert 'attention, level mean; att2: attention, level 0' in text
    figures = found['models']['WRN-aib'][0]['edits']
    assert text.count(f'{100 * figures["patch p=8"]["area"]:.2f}') >= 1


def measured(out: Path, kind: str = 'edited') -> list[Path]:
    return sorted((out / 'measured').glob(f'*-{kind}-*.npz'))


def test_figures_do_not_depend_on_the_batch(run: Callable, tmp_path: Path) -> None:
    outs = [tmp_path / 'one', tmp_path / 'many']
    for out, batch in zip(outs, ('1', '7'), strict=True):
        run(*AIB, *TWO, '--batch', batch, out=out)
    assert [p.name for p in measured(outs[0])] == [p.name for p in measured(outs[1])]
    for one, many in zip(*map(measured, outs), strict=True):
        with np.load(one) as a, np.load(many) as b:
            assert (a['predicted'] == b['predicted']).all()
            np.testing.assert_allclose(a['similarity'], b['similarity'], atol=1e-5)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """The images of every batch that a model gets, without the trial of the first."""
    batches: list[Tensor] = []
    look = MapModel.look

    def spy(self: MapModel, name: str, batch: dict, indices: list[int]) -> Look:
        if len(indices) > 1:
            batches.append(torch.stack([image.float() for image in batch['inputs']]))
        return look(self, name, batch, indices)

    monkeypatch.setattr(MapModel, 'look', spy)
    yield batches


def test_every_model_gets_the_same_images(run: Callable, seen: list[Tensor]) -> None:
    run(*AIB, *ATT2, *TWO)
    assert len(seen) == 6
    for ours, theirs in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(ours, theirs)
    occluded = (seen[0] != seen[1]).any(dim=1).sum(dim=(1, 2))
    assert ((occluded > 50) & (occluded <= 64)).all()


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(
    run: Callable, seen: list[Tensor], user: Path, tmp_path: Path
) -> None:
    first = run(*AIB, *TWO)
    assert len(seen) == 3
    for arguments, batches in (
        ((), 0),
        (('--threshold', '0.5'), 0),
        (('--batch', '6'), 0),
        (('--title', 'aib=A'), 0),
        (('--normalization', 'standard'), 2),
        (('--clip',), 1),
        (('--images', '9'), 3),
        (('--seed', '1'), 3),
        (('--force',), 3),
    ):
        seen.clear()
        found = run(*AIB, *TWO, *arguments)
        assert len(seen) == batches, arguments
    assert found['models'] == first['models']
    # Other weights under the same name.
    copy = tmp_path / 'copy.pth'
    for source, batches in (('aib0.pth', 0), ('aib1.pth', 3)):
        seen.clear()
        copy.write_bytes((user / source).read_bytes())
        run('--model', 'aib.py', str(copy), *TWO)
        assert len(seen) == batches


def test_a_killed_run_goes_on(
    run: Callable,
    seen: list[Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = run(*AIB, *TWO, out=tmp_path / 'whole')
    spy = MapModel.look
    seen.clear()

    def killed(self: MapModel, name: str, batch: dict, indices: list[int]) -> Look:
        if len(seen) == 5:  # in the second half of the second edit
            raise SystemExit
        return spy(self, name, batch, indices)

    monkeypatch.setattr(MapModel, 'look', killed)
    with pytest.raises(SystemExit):
        run(*AIB, *TWO, '--batch', '6')
    assert len(measured(tmp_path / 'out')) == 1
    monkeypatch.setattr(MapModel, 'look', spy)
    # A file that was cut short by something else is no result.
    (originals,) = measured(tmp_path / 'out', 'originals')
    originals.write_bytes(originals.read_bytes()[:200])
    seen.clear()
    found = run(*AIB, *TWO, '--batch', '6')
    assert len(seen) == 4
    figures, others = found['models']['aib'][0], whole['models']['aib'][0]
    for name, values in others['edits'].items():
        assert figures['edits'][name]['score'] == values['score']
        assert figures['edits'][name]['area'] == pytest.approx(values['area'], abs=1e-6)


@pytest.mark.parametrize('content', [b'', b'PK', b'text'])
def test_a_damaged_file_is_measured_again(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'measured' / 'a.npz'
    found = dict(predicted=np.array([1]), similarity=np.array([0.5]))
    assert read_arrays(path, found) is None
    write_arrays(path, found)
    assert list(path.parent.iterdir()) == [path]
    assert read_arrays(path, found) == found
    # One that an earlier version left without a new measure is none either.
    assert read_arrays(path, [*found, 'more']) is None
    path.write_bytes(content)
    assert read_arrays(path, found) is None


def test_superfluous_weights_are_a_warning(user: Path, tmp_path: Path) -> None:
    content = torch.load(user / 'aib0.pth')
    content['state_dict']['more'] = torch.ones(1)
    torch.save(content, tmp_path / 'more.pth')
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'aib_mm.training.checkpoint_fit.print_log', lambda t, **_: said.append(t)
        )
        trained_model(Config.fromfile(user / 'aib.py'), str(tmp_path / 'more.pth'))
    assert len(said) == 1 and re.search(r'more\.pth has 1 weights .*: more$', said[0])


@pytest.mark.parametrize(
    'kind', ['AttentionFieldsHook', 'mmengine.AttentionFieldsHook', AttentionFieldsHook]
)
def test_the_level_is_that_of_the_configs_hook(kind: Any) -> None:
    hooks = [dict(type='EMAHook', level=3), dict(type=kind, level=0)]
    assert level_of(Config(dict(custom_hooks=hooks))) == 0
    assert level_of(Config(dict(custom_hooks=hooks[:1]))) == 'mean'


def test_a_share_of_the_images_is_drawn_by_the_seed(
    run: Callable, seen: list[Tensor]
) -> None:
    drawn = []
    for seed in ('0', '0', '1'):
        seen.clear()
        found = run(*AIB, *TWO, '--images', '5', '--seed', seed, '--force')
        assert found['models']['aib'][0]['images'] == 5
        drawn.append(seen[0])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize('alone', [False, True])
def test_patches_have_the_channels_of_the_images_they_go_into(
    run: Callable, seen: list[Tensor], user: Path, alone: bool
) -> None:
    patches = 'bgr.py'
    if alone:  # a file of a data set, without a scope
        cfg = Config.fromfile(user / patches)
        patches = 'alone.py'
        colors = dict(data_preprocessor=cfg.model.data_preprocessor)
        parts = dict(colors, test_dataloader=cfg.test_dataloader)
        Config(parts).dump(user / patches)
    # As in a new process, which no earlier test has given a scope.
    with DefaultScope.overwrite_default_scope('mmengine'):
        run(*AIB, '--sizes', '16', '--patches-from', patches, '--high', '--low')
    before, _, patched = seen
    source = Config.fromfile(user / 'bgr.py').test_dataloader.dataset
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        from mmpretrain.registry import DATASETS

        dataset = DATASETS.build(source)
    others = [dataset[i]['inputs'].float().flip(0) for i in range(len(dataset))]
    assert len(others) == 10
    for index in range(IMAGES):
        edit = Patch(16, others)
        generator = generator_for(0, edit.name, index)
        assert torch.equal(patched[index], edit(before[index], generator))


def test_several_checkpoints_give_mean_and_spread(
    run: Callable, tmp_path: Path
) -> None:
    found = run(*AIB, 'aib1.pth', *TWO)
    shares = [
        100 * checkpoint['edits']['r > 4']['area']
        for checkpoint in found['models']['aib']
    ]
    cell = f'{np.mean(shares):.2f} ± {np.std(shares, ddof=1):.2f}'
    assert cell in (tmp_path / 'out' / 'interpretability.md').read_text()


def test_scores_that_do_not_exist_are_dashes(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, calls = MapModel.look, []

    def fickle(self: MapModel, name: str, batch: dict, indices: list[int]) -> Look:
        found = look(self, name, batch, indices)
        calls.append(name)
        return found._replace(predicted=torch.full_like(found.predicted, len(calls)))

    monkeypatch.setattr(MapModel, 'look', fickle)
    found = run(*AIB, *TWO)
    figures = found['models']['aib'][0]['edits']['r > 4']
    assert figures['prediction_consistent'] == 0
    assert figures['area'] is figures['score']['0.9'] is figures['curve'][0] is None
    assert '| aib | – | – |' in (tmp_path / 'out' / 'interpretability.md').read_text()


@pytest.mark.slow
def test_the_command_on_cifar_files(user: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    edits = ('--images', '6', '--low', '12', '20', '--sizes')
    printed = stdout_of(TOOL, *AIB, *edits, '--out', out, cwd=user)
    assert 'aib, aib0.pth: r < 20 measured' in printed
    assert (out / 'interpretability.md').read_text().count('| aib |') == 3


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--model', 'aib.py'], r'--model aib\.py needs a checkpoint behind'),
        ([*AIB, *AIB], r'a second config called aib'),
        ([*AIB, '--title', 'abi=X'], r"one of \['aib'\], got 'abi=X'"),
        ([*AIB, *ATT2, '--title', 'aib=att2'], r'tell the models apart'),
        (['--model', 'absent.py', 'aib0.pth'], r'config absent\.py does not exist'),
        (['--model', 'aib.py', 'absent.pth'], r'absent\.pth does not exist'),
        (
            ['--model', 'aib.py', 'vanilla0.pth'],
            r'vanilla0\.pth is not of this ImageClassifier: \d+ of its \d+ weights are '
            r'missing .*aib\.py is not the config .*; python -m aib_mm compare',
        ),
        (
            [*AIB, '--sizes', '40'],
            r'color p=40 of .*40×40 pixels does not fit',
        ),
        ([*AIB, '--high', '-1'], r'r > -1 of .*radius must be >= 0, got -1'),
        ([*AIB, '--sizes', '--high', '--low'], r'no edits: give at least one'),
        ([*AIB, '--level', '3'], r'level must be less than 1.*got 3'),
        ([*AIB, '--patches-from', 'none.py'], r'config none\.py does not exist'),
        (
            ['--model', 'labels.py', 'labels0.pth'],
            r'labels\.py: MultiLabelLinearClsHead gives an image several classes',
        ),
        (
            [*AIB, '--cfg-options', 'default_scope=mmdet'],
            r"aib\.py is no classifier: .* got 'mmdet'",
        ),
        (
            [
                *AIB,
                '--cfg-options',
                'test_dataloader.dataset.data_root=nowhere',
                'test_dataloader.dataset.download=False',
            ],
            r'test images of aib\.py: .*Cannot find .* in nowhere',
        ),
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
    assert_refused(interpretability, arguments, message, tmp_path / 'out', capsys)


def test_the_missing_library_is_named(
    user: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(user)
    monkeypatch.setitem(sys.modules, 'pytorch_grad_cam', None)
    arguments = ['--model', 'vanilla.py', 'vanilla0.pth', '--out', str(tmp_path)]
    assert interpretability.main(arguments) == 2
    assert re.search(
        r'vanilla\.py has no attention; .* pip install grad-cam',
        capsys.readouterr().err,
    )
    with pytest.raises(MissingLibraryError, match=r'pip install grad-cam'):
        class_activation(nn.Identity(), nn.Identity(), torch.rand(1, 3, 8, 8))


@needs_grad_cam
def test_models_without_attention_are_measured_by_class_activation(
    run: Callable, user: Path, tmp_path: Path
) -> None:
    vanilla = ('--model', 'vanilla.py', 'vanilla0.pth')
    layer = ('--source', 'vanilla=gradcam:backbone.layer2')
    found = run(*vanilla, *AIB, *layer, '--sizes', '--high')
    checkpoint = found['models']['vanilla'][0]
    assert checkpoint['maps'] == 'GradCAM of backbone.layer2'
    assert 0 <= checkpoint['edits']['r < 12']['area'] <= 1
    edit = Frequencies(12.0, high=False)
    assert list(checkpoint['edits']) == [edit.name]
    (originals,) = [
        path
        for path in measured(tmp_path / 'out', 'originals')
        if 'vanilla' in path.name
    ]
    with np.load(originals) as content:
        assert content['maps'].shape == (IMAGES, 16, 16)
    code = interpretability.main([*vanilla, '--source', 'gradcam:nope', '--out', 'x'])
    assert code == 2


def test_the_options_name_what_the_engine_has() -> None:
    assert all(method.lower() in SOURCES for method in METHODS)
    assert interpretability.FITS == FITS
    assert interpretability.NORMALIZATIONS == NORMALIZATIONS
