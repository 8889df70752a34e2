"""tools/reproduce.py: the paper's figures, needs, configs, tables; tiny real runs."""

import io
import json
import math
import re
from argparse import Namespace
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from cifar_files import TESTS, use_files, write_cifar10
from cub_files import write_cub
from mmengine import load
from mmengine.config import Config
from rich.console import Console
from svhn_files import write_svhn

from aib_mm.classification import SVHN
from aib_mm.cli import interpretability
from aib_mm.cli.reproduce import TABLES as CHOICES
from aib_mm.cli.reproduce import main
from aib_mm.experiments.grid.engine import plan
from aib_mm.experiments.grid.notes import Result, Training
from aib_mm.experiments.reproduce import scores
from aib_mm.experiments.reproduce.data import SETS, check_data
from aib_mm.experiments.reproduce.main import _tests
from aib_mm.experiments.reproduce.panels import Changes, Panel, svhn_images
from aib_mm.experiments.reproduce.results import Pair, PaperResults, comparison
from aib_mm.experiments.reproduce.tables import TABLES, Part, paper_figures
from aib_mm.experiments.reproduce.weights import check_weights
from aib_mm.utils.tables import ABSENT

pytest.importorskip('mmpretrain')

CONFIGS = TESTS.parent / 'configs'
EDITS = [
    *(f'{kind} p={size}' for kind in ('color', 'patch') for size in (4, 8, 12, 16)),
    'r > 4',
    'r < 12',
]
METRICS = {'box AP': 'mAP', 'box AP50': 'mAP@50', 'box AP75': 'mAP@75'}


def part_of(table: str, name: str) -> Part:
    return next(part for part in TABLES[table] if part.name == name)


def panel_of(table: str, name: str, only: tuple = (), **changes) -> Panel:
    panel = Panel.read(part_of(table, name), only, Changes(**changes))
    assert panel is not None
    return panel


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """The program in a folder; its exit code and all that it printed."""
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(text):
        patch.chdir(folder)
        patch.setenv('PYTHONPATH', str(TESTS))
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.syspath_prepend(str(TESTS))
        with redirect_stderr(text):
            code = main(list(arguments))
    return code, text.getvalue()


# --- the paper's figures ----------------------------------------------------------


def test_the_program_takes_every_table() -> None:
    assert set(CHOICES) == set(TABLES)


@pytest.mark.parametrize('table', TABLES)
def test_every_figure_has_a_row_that_is_trained(table: str) -> None:
    figures = paper_figures(table)
    of_columns = {
        column.key: [row.name for row in Panel.read(part, (), Changes()).rows]
        for part in TABLES[table]
        for column in part.columns
    }
    if table == '8':  # its columns are edits of the images of a set
        of_columns = {
            key: of_columns[key.partition(', ')[0]] for key in figures if ', ' in key
        }
        assert len(figures) == 20
    assert set(figures) == set(of_columns)
    empty = {
        (key, row)
        for key, rows in of_columns.items()
        for row in rows
        if row not in figures[key]
    }
    for key, found in figures.items():
        assert set(found) <= set(of_columns[key])
    expected = {('CUB-200-2011', 'wrn_abn'), ('SVHN', 'wrn')}
    expected |= {(f'STL10-{split}', 'wrn') for split in ('train', 'test')}
    if table == 'fig6':
        assert set(figures['CIFAR-10']) == {'beta_0.01', 'latent_256', 'anchors_20'}
    else:
        assert empty == (expected if table == '5' else set())


@pytest.mark.parametrize('table', ['5', '6', '7'])
def test_the_metafiles_were_transcribed_alike(table: str) -> None:
    figures, compared = paper_figures(table), 0
    for part in TABLES[table]:
        if part.trained_on:
            continue
        listed = load(CONFIGS / part.grid.partition('/')[0] / 'metafile.yml')['Models']
        results = {
            Path(entry['Config']).stem: entry.get('Results', []) for entry in listed
        }
        for row in Panel.read(part, (), Changes()).rows:
            for result in results[Path(row.config).stem]:
                for name, value in result['Metrics'].items():
                    name = name.removesuffix(" (the paper's figure)")
                    key = METRICS.get(name, part.columns[0].key)
                    if result['Dataset'].startswith('STL'):
                        key = result['Dataset']
                    assert figures[key][row.name] == value, (row.config, name)
                    compared += 1
    assert compared == {'5': 68, '6': 4, '7': 9}[table]


def test_the_settings_of_fig_6_that_are_defaults_are_those_of_table_2() -> None:
    table = paper_figures('2')['CIFAR-10']
    figure = paper_figures('fig6')['CIFAR-10']
    assert figure['beta_0.01'] == figure['latent_256'] == table['vgg_aib']
    assert figure['anchors_20'] == table['vgg_aib_qt']


# --- tables -----------------------------------------------------------------------


def test_the_paper_stands_beside_ours() -> None:
    pairs = [
        Pair('A', 4.0, [3.0, 4.5]),
        Pair('B', None, [3.0]),
        Pair('C', 4.0, []),
        Pair('D', 4.0, [None, 5.0]),
    ]
    table = comparison(pairs, 2)
    heads = [column.head for column in table.columns]
    assert heads == ['model', 'the paper', 'ours', 'difference', 'seeds']
    assert table.rows == [
        ['A', '4.00', '3.75 ± 1.06', '-0.25', '2'],
        ['B', ABSENT, '3.00', ABSENT, '1'],
        ['C', '4.00', ABSENT, ABSENT, '0'],
        ['D', '4.00', '5.00 (n=1)', '+1.00', '2'],
    ]


def results_of(panels: list[Panel], runs: list, figures: dict) -> PaperResults:
    titles = {panel.name(row): row.title for panel in panels for row in panel.rows}
    about = dict(command='c', jobs=1, threads='1')
    return PaperResults(titles, runs, **about, panels=panels, figures=figures)


def test_models_of_cifar_are_tested_on_stl(tmp_path: Path) -> None:
    names = ('cifar10', 'STL10-train', 'STL10-test')
    panels = [panel_of('5', name, ('vgg', 'vgg_gap')) for name in names]
    configs = {panels[0].name(row): panels[0].config(row) for row in panels[0].rows}
    runs = plan(configs, [3], tmp_path)
    assert runs[0].config == tmp_path / 'cifar10/vgg/vgg.py'
    assert runs[0].work_dir == tmp_path / 'cifar10/vgg/seed3'
    results = results_of(panels, runs, paper_figures('5'))
    training = Training('f', 'epoch_200.pth', 1.0, 1)
    # The second one is not trained yet.
    results.results[runs[0]] = Result('w', training, 1.0, {'accuracy/top1': 95.0})
    train, test = tests = _tests(panels, results, [3], tmp_path)
    assert (train.name, test.name) == ('STL10-train/vgg', 'STL10-test/vgg')
    assert test.checkpoint == runs[0].work_dir / 'epoch_200.pth'
    dataset = Config.fromfile(test.config).test_dataloader.dataset
    assert (dataset.type, dataset.split, dataset.classes_of) == ('STL10', 'test', None)
    results.runs = [*runs, *tests]
    results.results[test] = Result('w', training, 1.0, {'accuracy/top1': 50.0})
    tables = {title.partition(',')[0]: t for title, t in results.tables().items()}
    assert tables['CIFAR-10'].rows[0] == ['VGG', '7.77', '5.00', '-2.77', '1']
    assert tables['CIFAR-10'].rows[1][2:] == [ABSENT, ABSENT, '0']
    assert tables['STL10-test'].rows[0] == ['VGG', '55.09', '50.00', '-5.09', '1']


def test_table_8_is_measured_by_the_programs_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = panel_of('8', 'cifar10', ('vgg_att3', 'vgg_aib'))
    configs = {panel.name(row): panel.config(row) for row in panel.rows}
    runs = plan(configs, [0], tmp_path)
    results = results_of([panel], runs, paper_figures('8'))
    training = Training('f', 'epoch_200.pth', 1.0, 1)
    results.results[runs[0]] = Result('w', training, 1.0, {})
    seen: list[Namespace] = []

    def score_maps(options: Namespace) -> dict[str, list[dict]]:
        seen.append(options)
        # No prediction stays on one of the edits: it has no score.
        values = {'color p=4': math.nan, 'r > 4': 0.5}
        edits = {name: dict(score={'0.9': score}) for name, score in values.items()}
        edits |= {edit: edits['r > 4'] for edit in EDITS if edit not in edits}
        return dict(vgg_att3=[dict(edits=edits)])

    monkeypatch.setattr(scores, 'score_maps', score_maps)
    read = interpretability.make_parser().parse_args
    console = Console(file=io.StringIO())
    scores.scores_of(results, svhn_images(None), tmp_path, console, read, True)
    (options,) = seen
    seed = tmp_path / 'cifar10/vgg_att3/seed0'
    assert options.model == [[str(runs[0].config), str(seed / 'epoch_200.pth')]]
    assert (options.command, options.force) == ('c', True)
    assert (options.sizes, options.high, options.low) == ([4, 8, 12, 16], [4.0], [12.0])
    # What is kept is named after the text of these.
    assert str([*options.high, *options.low]) == '[4.0, 12.0]'
    assert (options.threshold, options.seed, options.images) == ([0.9], 0, None)
    table = (tmp_path / 'scores.md').read_text()
    assert f'| VGG-att3 | 91.46 | {ABSENT} | {ABSENT} | 1 |' in table
    assert '| VGG-att3 | 83.06 | 50.00 | -33.06 | 1 |' in table


# --- configs ----------------------------------------------------------------------


def test_narrow_models_are_for_the_classes_of_the_set() -> None:
    panel = panel_of('5', 'cub', ('vgg_pan',), narrow=True, epochs=2)
    cfg = panel.config(panel.rows[0])
    assert cfg.model.backbone.width == 1 / 8
    assert cfg.model.head.num_classes == 200
    assert cfg.load_from is None
    assert cfg.train_dataloader.dataset.type == 'CUBWithBoxes'
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (2, 2)


def test_an_epoch_of_iterations_is_the_images() -> None:
    pytest.importorskip('mmseg')
    panel = panel_of('6', 'ade20k', ('beit_aib',), epochs=2)
    cfg = panel.config(panel.rows[0])
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == 2 * 20_210 // 8
    # The batch of 16, as on the paper's 4 GPUs.
    assert cfg.optim_wrapper.accumulative_counts * cfg.train_dataloader.batch_size == 16


def test_the_data_root_is_that_of_every_file() -> None:
    pytest.importorskip('mmdet')
    panel = panel_of('7', 'coco', ('faster_rcnn',), data_root='/sets')
    cfg = panel.config(panel.rows[0])
    assert cfg.train_dataloader.dataset.data_root == '/sets/coco'
    file = 'annotations/instances_val2017.json'
    assert cfg.test_evaluator.ann_file == f'/sets/coco/{file}'
    assert cfg.optim_wrapper.accumulative_counts * cfg.train_dataloader.batch_size == 16
    assert '/sets' not in panel_of('7', 'coco').config(panel.rows[0]).pretty_text


# --- data and weights -------------------------------------------------------------


def cub_config(root: Path) -> Config:
    panel = panel_of('5', 'cub', ('vgg',), data_root=str(root))
    return panel.config(panel.rows[0])


def test_images_are_counted_and_must_be_there(tmp_path: Path) -> None:
    folder = write_cub(tmp_path / 'CUB_200_2011', count=4)
    cfg = cub_config(tmp_path)
    need = check_data('cub', cfg, str(tmp_path), any_data=False)
    assert need.found == f'2 + 2 images in {folder}'
    assert '5,994 + 5,794 were published; fetch CUB_200_2011.tgz' in need.problem
    need = check_data('cub', cfg, str(tmp_path), any_data=True)
    assert (need.problem, need.images) == ('', 2)
    assert 'NOT the published set' in need.line()
    lost = next((folder / 'images').glob('*/*4.jpg'))
    lost.unlink()
    need = check_data('cub', cfg, str(tmp_path), any_data=True)
    assert need.problem.startswith(f'{lost} does not exist; fetch')


def test_a_published_count_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    write_cub(tmp_path / 'CUB_200_2011', count=4)
    monkeypatch.setitem(SETS, 'cub', replace(SETS['cub'], images=(2, 2)))
    need = check_data('cub', cub_config(tmp_path), str(tmp_path), any_data=False)
    assert need.line().endswith('CUB_200_2011, counted, files there')


def test_missing_data_says_where_it_goes(tmp_path: Path) -> None:
    write_svhn(tmp_path / 'svhn')
    panel = panel_of('5', 'svhn', ('vgg',), data_root=str(tmp_path))
    need = check_data('svhn', panel.config(panel.rows[0]), str(tmp_path), True)
    assert need.found == ''
    assert re.search(r'^SVHN: MISSING; fetch train_32x32\.mat .*\(its MD5', need.line())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps what it fetches."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    return tmp_path / 'checkpoints'


def test_weights_are_compared_with_the_sum_in_their_name(hub: Path) -> None:
    digits = sha256(b'weights').hexdigest()[:8]
    address = f'https://somewhere.org/v0/net-{digits}.pth'
    cfg = Config(dict(load_from=address, model=dict(backbone=dict(type='VGG'))))
    path = hub / f'net-{digits}.pth'
    (need,) = check_weights([('a.py', cfg), ('b.py', cfg)])
    assert need.problem == '' and f'without network put it at {path}' in need.found
    path.write_bytes(b'weights')
    (need,) = check_weights([('a.py', cfg)])
    assert need.line() == f'{path.name}: {path}, SHA-256 as published'
    path.write_bytes(b'weight')
    (need,) = check_weights([('a.py', cfg)])
    assert need.problem == f'its SHA-256 does not begin with {digits}; remove it'


def test_split_weights_say_how_they_are_made(hub: Path) -> None:
    panel = panel_of('5', 'cub', ('vgg_pan', 'wrn_abn'))
    vgg, wrn = check_weights((row.config, panel.config(row)) for row in panel.rows)
    assert (
        'imagenet_weights https://' in vgg.problem and 'vgg16_batch256' in vgg.problem
    )
    assert vgg.problem.endswith('--model configs/mmpretrain/vgg16_pan_cub.py')
    assert 'wide-resnet50' in wrn.problem
    with torch.no_grad():
        cfg = Config(dict(model=dict(backbone=dict(pretrained='torchvision://vgg16'))))
    (need,) = check_weights([('a.py', cfg)])
    assert need.title == 'vgg16-397923af.pth' and not need.problem


# --- the program ------------------------------------------------------------------


def test_a_dry_run_says_what_is_missing_and_what_would_run(tmp_path: Path) -> None:
    code, text = run(tmp_path, 'fig6', '--only', 'beta_0.1', '--dry-run')
    assert code == 0
    missing, command = text.splitlines()
    assert missing.startswith('CIFAR-10: MISSING; fetch https://www.cs.toronto.edu')
    assert 'unpack it in data/cifar10' in missing
    assert re.fullmatch(
        r'python tools/train\.py \S+/vgg16_aib_cifar10\.py --work-dir '
        r'work_dirs/reproduce/cifar10/beta_0\.1/seed0 --seed 0 --cfg-options '
        r'model\.head\.aib_loss\.beta=0\.1',
        command,
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--sets', 'coco'], '--sets coco: table 5 has cifar10, cifar100, cub, svhn,'),
        (['--only', 'resnet'], '--only resnet: table 5 has no such row'),
        (['--sets', 'STL10-test'], 'tests the models of cifar10: name it too'),
        (
            ['--sets', 'svhn', '--only', 'vgg'],
            'table 5 needs SVHN, see above; --sets and --only leave',
        ),
    ],
)
def test_what_cannot_work_is_refused(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, text = run(tmp_path, '5', *arguments)
    assert code == 2
    assert message in text
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_table_8_measures_what_it_trains(tmp_path: Path) -> None:
    arguments = ['8', '--sets', 'cifar10', '--only', 'vgg_aib', '--seeds', '0', '1']
    code, text = run(tmp_path, *arguments, '--dry-run')
    assert code == 0
    assert 'SVHN: MISSING' in text
    out = 'work_dirs/reproduce/table8'
    trained = 'work_dirs/reproduce/cifar10/vgg_aib'
    assert text.splitlines()[-1] == (
        f'python tools/interpretability.py --out {out}/cifar10 --model '
        f'{trained}/vgg_aib.py {trained}/seed0/epoch_200.pth '
        f'{trained}/seed1/epoch_200.pth --patches-from {out}/patches.py'
    )


@pytest.mark.slow
def test_the_dry_run_of_the_page(tmp_path: Path) -> None:
    """The first command of docs/reproduce.md, where there is no data."""
    page = (TESTS.parent / 'docs' / 'reproduce.md').read_text()
    command = re.search(r'```shell\n(.*)', page)[1].partition('#')[0]
    program, *arguments = command.split()[1:]
    assert program == 'tools/reproduce.py'
    code, text = run(tmp_path, *arguments)
    lines = text.splitlines()
    assert code == 0
    trained = [line for line in lines if line.startswith('python tools/train.py')]
    tested = [line for line in lines if line.startswith('python tools/cross_domain.py')]
    assert (len(trained), len(tested)) == (48, 12)
    missing = [line.partition(': MISSING')[0] for line in lines if 'MISSING' in line]
    for part in TABLES['5']:
        assert SETS[part.name].title in missing


# --- tiny real runs ---------------------------------------------------------------

SMALL = [
    *(f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')),
    *(
        f'{split}_dataloader.persistent_workers=False'
        for split in ('train', 'val', 'test')
    ),
    'train_dataloader.batch_size=2',
]


def write_sets(table: str, root: Path) -> None:
    """The data set of a table in its true format, below ``root/data``."""
    if table == '5':
        write_cub(root / 'data' / 'CUB_200_2011', count=4, lossless=False)
    elif table == '6':
        pytest.importorskip('mmseg')
        from ade_files import write_ade

        write_ade(root)
    else:
        pytest.importorskip('mmdet')
        from coco_files import write_coco

        write_coco(root)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('table', 'name', 'row', 'options'),
    [
        ('5', 'cub', 'vgg_pan', []),
        ('6', 'ade20k', 'beit_aib_qt', []),
        ('7', 'coco', 'faster_rcnn_aib_qt', ['model.test_cfg.rcnn.score_thr=0.0']),
    ],
)
def test_a_row_of_a_table_is_trained_and_goes_on(
    table: str, name: str, row: str, options: list[str], tmp_path: Path
) -> None:
    write_sets(table, tmp_path)
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    arguments = [table, '--sets', name, '--only', row, '--narrow', '--epochs', '1']
    arguments += ['--any-data', '--data-root', str(tmp_path / 'data')]
    arguments += ['--cfg-options', *SMALL, *options]
    code, text = run(elsewhere, *arguments)
    assert code == 0, text
    folder = elsewhere / 'work_dirs' / 'reproduce-trial'
    assert (folder / name / row / 'seed0' / 'run.json').is_file()
    table_text = (folder / f'table{table}' / f'table{table}.md').read_text()
    assert 'A TRIAL: narrow models' in table_text
    printed = {'5': '31.46', '6': '49.96', '7': '38.4'}[table]
    assert re.search(rf'\| {re.escape(printed)} \| \d+\.\d+ \| [+-]\d', table_text)
    code, text = run(elsewhere, *arguments)
    assert code == 0 and f'{name}/{row} seed 0: already done' in text


@pytest.mark.slow
def test_scores_of_table_8_stand_beside_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unchecked_sets import UncheckedSVHN

    write_cifar10(tmp_path / 'data' / 'cifar10', train_per_batch=4, test=4)
    write_svhn(tmp_path / 'data' / 'svhn')
    monkeypatch.setattr(SVHN, 'splits', UncheckedSVHN.splits)
    arguments = ['8', '--sets', 'cifar10', '--only', 'vgg_att3', '--narrow']
    arguments += ['--epochs', '1', '--any-data', '--cfg-options']
    files = use_files(tmp_path / 'data' / 'cifar10', 10)
    code, text = run(tmp_path, *arguments, *SMALL, *files)
    assert code == 0, text
    out = tmp_path / 'work_dirs' / 'reproduce-trial' / 'table8'
    table = (out / 'scores.md').read_text()
    assert table.count('| VGG-att3 |') == 10
    assert re.search(r'color p=4, .*\n\n.*\n.*\n\| VGG-att3 \| 91\.46 \| ', table)
    scores = json.loads((out / 'scores.json').read_text())['scores']
    assert len(scores['CIFAR-10']['vgg_att3']) == 10
