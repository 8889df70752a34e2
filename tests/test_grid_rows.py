"""Grid files: the shipped ones, what a row is, users' errors."""

import functools
import re
import shlex
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch._subclasses import FakeTensorMode

from aib_mm.cli.grid import main
from aib_mm.cli.train import configure, make_parser
from aib_mm.diagnosis.configs import parse_options
from aib_mm.errors import UsageError
from aib_mm.experiments.grid.rows import Row, read_rows

pytest.importorskip('mmpretrain')

GRIDS = Path(__file__).parents[1] / 'configs' / 'mmpretrain' / 'grids'


def rows(name: str) -> list[Row]:
    return read_rows([str(GRIDS / f'{name}.py')])


@functools.cache
def load(row: Row) -> Config:
    """The row's config, read once; not to be changed."""
    return row.load()


def build(cfg: Config) -> torch.nn.Module:
    from mmpretrain.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    return model


# --- the shipped grids ------------------------------------------------------------


@pytest.mark.parametrize(
    'path',
    [
        pytest.param(
            path,
            id=path.stem,
            marks=[] if path.stem == 'table2_cifar10' else pytest.mark.slow,
        )
        for path in sorted(GRIDS.glob('*.py'))
    ],
)
def test_every_row_of_a_grid_fits_together(path: Path) -> None:
    data = path.stem.partition('_')[2]
    classes = dict(cifar100=100, cub=200).get(data, 10)
    size = 224 if data == 'cub' else 32
    for row in read_rows([str(path)]):
        cfg = load(row)
        # Shapes only, as these are the full-size models; CUB's are the host's, which
        # look at numbers while they are built.
        with torch.no_grad() if data == 'cub' else FakeTensorMode():
            model = build(cfg).eval()
            scores = model(torch.randn(1, 3, size, size))
        assert scores.shape == (1, classes), row.name


def test_data_sets_share_their_rows() -> None:
    for table in ('table2', 'table5', 'fig6'):
        full, coarse, narrow = (
            rows(f'{table}_{data}') for data in ('cifar10', 'cifar100', 'digitscenes')
        )
        names = [row.name for row in full]
        assert [row.name for row in coarse] == [row.name for row in narrow] == names
        assert all(row.config.endswith('_digitscenes.py') for row in narrow)
        assert all(row.config.endswith('_cifar100.py') for row in coarse)
        for row in (*full, *coarse, *narrow):
            assert Path(row.config).is_file(), row


@pytest.mark.parametrize('data', ['cifar10', 'digitscenes'])
def test_table_2_has_all_lines_of_the_paper(data: str) -> None:
    latent_dim = dict(cifar10=256, digitscenes=64)[data]
    found = {}
    for row in rows(f'table2_{data}'):
        model = load(row).model
        if row.name in ('vgg', 'wrn'):
            assert 'encoder' not in model.head
            continue
        noise = model.neck.get('noise')
        kl = model.head.get('aib_loss', {}).get('kl')
        if kl is not None:
            assert kl == dict(type='AdversarialKL', latent_dim=latent_dim)
        assert (model.neck.get('quantizer') is None) != row.name.endswith('_qt')
        found[row.name] = (
            model.neck.get('modulation', 'residual'),
            model.head.encoder.type,
            None if noise is None else noise.type,
            None if kl is None else kl.type,
        )
    expected = dict(
        wrn_aib=('residual', 'GaussianEncoder', None, None),
        vgg_aib=('residual', 'GaussianEncoder', None, None),
        vgg_aib_scale=('scale', 'GaussianEncoder', None, None),
        vgg_aib_bias=('bias', 'GaussianEncoder', None, None),
        vgg_aib_concat=('concat', 'GaussianEncoder', None, None),
        vgg_aib_adversarial=('residual', 'GaussianEncoder', None, 'AdversarialKL'),
        vgg_aib_additive=(
            'residual',
            'NoiseEncoder',
            'AdditiveNoise',
            'AdversarialKL',
        ),
        vgg_aib_propagated=(
            'residual',
            'NoiseEncoder',
            'PropagatedNoise',
            'AdversarialKL',
        ),
    )
    assert found == {
        f'{name}{qt}': parts for name, parts in expected.items() for qt in ('', '_qt')
    }


def test_fig_6_changes_one_thing_at_a_time() -> None:
    found: dict[str, list] = {}
    for row in rows('fig6_cifar10'):
        options = dict(parse_options(row.options))
        assert options.pop('model.head.aib_loss.type', 'AIBLoss') == 'AIBLoss'
        ((key, value),) = options.items()
        found.setdefault(key, []).append(value)
        assert row.name.endswith(f'_{value:g}')
        assert ('_qt_' in row.config) == ('anchors' in key)
    assert found == {
        'model.head.aib_loss.beta': [0, 0.0001, 0.001, 0.01, 0.1, 1],
        'model.head.latent_dim': [64, 128, 256, 512, 1024],
        'model.neck.quantizer.num_anchors': [5, 10, 20, 50, 100],
    }


@pytest.mark.parametrize(
    'row',
    [r for r in rows('table2_digitscenes') if 'aib' in r.name],
    ids=lambda r: r.name,
)
def test_a_step_of_every_narrow_line_moves_every_parameter(row: Row) -> None:
    from aib_mm.classification.random_batch import random_batch

    cfg = load(row)
    model = build(cfg)
    model.init_weights()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = model.train_step(random_batch(4, (32, 32), 10), wrapper)
    assert losses['loss'].isfinite()
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert not still


def test_what_is_printed_is_what_is_run(capsys: pytest.CaptureFixture) -> None:
    grid = str(GRIDS / 'table2_digitscenes.py')
    options = ['--only', 'vgg', 'vgg_aib_prop*', '--seeds', '3', '4', '--dry-run']
    assert main([grid, *options, '--cfg-options', 'train_cfg.max_epochs=2']) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [row for row in rows('table2_digitscenes') if 'prop' in row.name]
    assert len(lines) == 2 * (1 + len(listed)) == 6
    for line, row in zip(lines[1:3], listed, strict=True):
        python, program, *arguments = shlex.split(line)
        assert (python, program) == ('python', 'tools/train.py')
        cfg = configure(make_parser().parse_args(arguments))
        assert cfg.model == load(row).model
        assert cfg.train_cfg.max_epochs == 2
        assert cfg.randomness.seed == 3
        assert cfg.work_dir == f'work_dirs/table2_digitscenes/{row.name}/seed3'
    assert '--seed 4' in lines[3] and '--cfg-options train_cfg' in lines[3]


def test_the_weights_that_a_row_begins_with_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ['--only', 'aib', 'aib_tuned', '--out', str(tmp_path), '--dry-run']
    assert main([str(GRIDS / 'evidence_digitscenes.py'), *options]) == 0
    _, tuned = capsys.readouterr().out.splitlines()
    weights = tmp_path / 'aib/seed0/epoch_16.pth'
    weights.parent.mkdir(parents=True)
    torch.save(dict(state_dict={}), weights)
    cfg = configure(make_parser().parse_args(shlex.split(tuned)[2:]))
    assert cfg.load_from == str(weights) and not cfg.resume


# --- grid files -------------------------------------------------------------------


GRID = """
fill = dict(what='tiny', width=8)
rows = [
    dict(name='plain', config='../{what}.py'),
    dict(
        name='wide',
        title='A wide one',
        about='Twice as wide.',
        config='../{what}.py',
        options=['model.width={width}', 'model.kind=(1,2)'],
    ),
]
"""


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grid file and its config in a user's folder."""
    (tmp_path / 'grids').mkdir()
    (tmp_path / 'tiny.py').write_text('model = dict(width=1, depth=2)\n')
    (tmp_path / 'grids' / 'mine.py').write_text(GRID)
    monkeypatch.chdir(tmp_path)
    return Path('grids/mine.py')


def test_rows_are_configs_with_options(grid: Path) -> None:
    plain, wide, bare = read_rows([str(grid), 'tiny.py'])
    assert (plain.name, plain.config, plain.title) == ('plain', 'tiny.py', 'plain')
    assert (wide.title, wide.about) == ('A wide one', 'Twice as wide.')
    assert (bare.name, bare.config, bare.is_listed) == ('tiny', 'tiny.py', False)
    assert plain.load().model == bare.load().model == dict(width=1, depth=2)
    assert wide.load().model == dict(width=8, depth=2, kind=(1, 2))
    assert wide.load(['model.width=9']).model.width == 9
    assert wide.command('out', 1, ['a=b c']) == (
        'python tools/train.py tiny.py --work-dir out --seed 1 --cfg-options '
        "model.width=8 'model.kind=(1,2)' 'a=b c'"
    )


def test_a_row_begins_with_the_weights_of_one_above(grid: Path) -> None:
    grid.write_text(GRID.replace("title='A wide", "load_from='plain', title='A wide"))
    wide = read_rows([str(grid)])[1]
    assert wide.load_from == 'plain'
    assert wide.command('out', 1, load_from='a/e.pth').split()[3:9] == (
        ['--work-dir', 'out', '--seed', '1', '--load-from', 'a/e.pth']
    )
    with pytest.raises(UsageError, match=r"'plain', which .* \(none\); --only has to"):
        read_rows([str(grid)], ['wide'])
    assert read_rows([str(grid)], ['wide'], trained=False) == [wide]
    grid.write_text(grid.read_text().replace("from='plain'", "from='wide'"))
    with pytest.raises(UsageError, match=r"'wide', which .* \(plain\); --only"):
        read_rows([str(grid)])


def test_only_keeps_the_order_of_the_grid(grid: Path) -> None:
    assert [row.name for row in read_rows([str(grid)], ['wi*', 'p?ain'])] == [
        'plain',
        'wide',
    ]


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ("name='plain', ", '', r"mine\.py, row \{'config'.* has no name; a row takes"),
        ("'plain',", "'plain', seeds=[1],", r"row 'plain' has unknown seeds; a row"),
        ('what=', 'data=', r"row 'plain' names 'what', which fill does not have; it"),
        ("name='plain'", "name='wide'", r'mine\.py and grids/mine\.py would share'),
        ("'../{what}.py'),", "'../none.py'),", r'config none\.py does not exist'),
        ('model.width=', 'model.width', r"takes KEY=VALUE pairs, got 'model\.width8'"),
        ('(1,2)', '(1,2', r'--cfg-options: Imbalanced brackets'),
        ('model.width=', 'model.width.x=', r'does not fit config tiny\.py'),
    ],
)
def test_mistakes_in_a_grid_are_named(
    grid: Path, old: str, new: str, message: str
) -> None:
    assert GRID.count(old)
    grid.write_text(GRID.replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        for row in read_rows([str(grid)]):
            row.load()


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ('[]', r'mine\.py: rows must be a list .* one row, got \[\]; a row is'),
        ("'ab'", r"at least one row, got 'ab'"),
        ("['ab']", r"mine\.py: a row must be a dict with name and config, got 'ab'"),
    ],
)
def test_rows_that_are_none(grid: Path, rows: str, message: str) -> None:
    grid.write_text(f'rows = {rows}')
    with pytest.raises(UsageError, match=message):
        read_rows([str(grid)])


def test_unknown_name_is_refused(grid: Path) -> None:
    message = r'--only wode: no row has such a name; there are plain, wide$'
    with pytest.raises(UsageError, match=message):
        read_rows([str(grid)], ['plain', 'wode'])


def test_no_options_are_no_options() -> None:
    assert parse_options([]) == {}
    assert not re.search('cfg-options', Row('a', 'a.py', 'a').command('out', 0))
