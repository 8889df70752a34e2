"""tools/grid.py: real runs, resuming, failures, the table, users' errors."""

import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import pytest
import torch
from cifar_files import TESTS, environment, write_cifar10
from mmengine.config import Config

from aib_mm.cli.grid import main
from aib_mm.experiments.grid.notes import Run
from aib_mm.utils.tables import ABSENT, Column, Table

pytest.importorskip('mmpretrain')

BASE = "_base_ = 'tiny_classifier.py'\n"
BROKEN = BASE + 'model = dict(head=dict(in_channels=33))\n'
BASES = (TESTS / 'tiny_classifier.py').read_text()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A user's folder: data, a config, one that builds but cannot train."""
    path = tmp_path_factory.mktemp('grid')
    write_cifar10(path / 'data')
    (path / 'tiny_classifier.py').write_text(BASES)
    (path / 'good.py').write_text(BASE)
    (path / 'bad.py').write_text(BROKEN)
    return path


def run(folder, *arguments):
    """Run the grid in a folder; its exit code and what it printed."""
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(text):
        patch.chdir(folder)
        for name in ('PYTHONPATH', 'OMP_NUM_THREADS'):
            patch.setenv(name, environment()[name])
        code = main(list(arguments))
    return code, text.getvalue()


@pytest.fixture(scope='module')
def first(folder):
    """The first grid: a config that trains and one that fails."""
    return run(folder, 'bad.py', 'good.py', '--seeds', '3', '--out', 'out')


@pytest.fixture(scope='module')
def results(folder, first):
    return json.loads((folder / 'out' / 'results.json').read_text())


def test_failed_run_stops_no_other_and_is_named(first, results):
    code, printed = first
    assert code == 1
    bad, good = results['runs']
    assert re.search(r'train ended with 1, see .*bad/seed3/train\.log', bad['failure'])
    assert 'bad seed 3: FAILED' in printed
    assert 'mat1 and mat2 shapes cannot be multiplied' in printed
    assert good['failure'] is None and 'good seed 3: done' in printed


def test_run_is_what_the_programs_do(folder, results):
    good = results['runs'][1]
    seed = folder / 'out/good/seed3'
    assert good['work_dir'] == str(seed)
    assert good['training']['checkpoint'] == 'epoch_1.pth'
    assert good['training']['seconds'] > 0 and good['test_seconds'] > 0
    log = (seed / 'train.log').read_text()
    validated = re.findall(r'Epoch\(val\) .*accuracy/top1: (\S+)', log)[-1]
    assert good['metrics']['accuracy/top1'] == pytest.approx(float(validated), abs=1e-3)
    assert Config.fromfile(seed / 'good.py').randomness.seed == 3


@pytest.fixture(scope='module')
def table(folder, first):
    return (folder / 'out' / 'table.md').read_text()


def test_table_says_what_is_there_and_what_not(first, results, table):
    accuracy = results['runs'][1]['metrics']['accuracy/top1']
    assert table.startswith('| config | seeds | accuracy/top1 | train s | test s |\n')
    assert f'| good | 1 | {accuracy:.2f} | ' in table
    assert f'| bad | 0 | {ABSENT} | {ABSENT} | {ABSENT} |' in table
    assert 'python tools/grid.py bad.py good.py --seeds 3 --out out' in table
    assert 'bad seed 3: train ended with 1' in table
    assert results['about']['torch'] in table and results['about']['cpu'] in table
    assert f'{accuracy:.2f}' in first[1]


def test_finished_run_is_not_repeated(folder, results, table):
    notes = [folder / 'out/good/seed3' / name for name in ('run.json', 'training.json')]
    before = [note.stat().st_mtime_ns for note in notes]
    arguments = ['good.py', '--seeds', '3', '--out', 'out', '--title', 'good=Good one']
    code, printed = run(folder, *arguments, '--metrics', 'accuracy/top1', 'mIoU')
    assert code == 0
    assert 'good seed 3: already done' in printed
    assert [note.stat().st_mtime_ns for note in notes] == before
    renewed = (folder / 'out' / 'table.md').read_text()
    assert '| Good one | 1 | ' in renewed
    assert 'No run reported mIoU; there are accuracy/top1.' in renewed


@pytest.mark.slow
def test_other_test_settings_need_no_new_training(folder, results, table):
    note = folder / 'out/good/seed3/training.json'
    before = note.stat().st_mtime_ns
    option = 'test_evaluator.topk=(1,5)'
    arguments = ['good.py', '--seeds', '3', '--out', 'out', '--cfg-options', option]
    code, printed = run(folder, *arguments)
    assert code == 0 and 'already done' not in printed
    assert note.stat().st_mtime_ns == before
    renewed = json.loads((folder / 'out' / 'results.json').read_text())['runs'][0]
    assert renewed['metrics']['accuracy/top5'] >= renewed['metrics']['accuracy/top1']


@pytest.mark.slow
def test_several_runs_side_by_side(folder):
    (folder / 'other.py').write_text(BASE + 'model = dict(backbone=dict(depth=34))\n')
    seeds = ['--seeds', '0', '1', '--jobs', '2', '--out', 'side']
    code, _ = run(folder, 'good.py', 'other.py', *seeds)
    assert code == 0
    table = (folder / 'side' / 'table.md').read_text()
    assert re.search(r'\| good \| 2 \| \d+\.\d\d ± \d+\.\d\d \|', table)
    assert re.search(r'\| other \| 2 \| \d+\.\d\d ± \d+\.\d\d \|', table)
    text = (folder / 'side' / 'results.json').read_text()
    assert [(r['config'], r['seed']) for r in json.loads(text)['runs']] == [
        ('good', 0),
        ('other', 0),
        ('good', 1),
        ('other', 1),
    ]


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_grid_goes_on(folder, repo, number):
    out = f'interrupted-{number}'
    options = ['--cfg-options', 'train_cfg.max_epochs=12']
    command = [sys.executable, str(repo / 'tools/grid.py'), 'good.py', '--out', out]
    command += options
    settings = dict(cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE)
    # A shell's background job ignores Ctrl-C, and hands that on to what it starts.
    settings['preexec_fn'] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    work_dir = folder / out / 'good' / 'seed0'
    with subprocess.Popen(command, **settings) as grid:
        try:
            wait_for(work_dir / 'last_checkpoint')
            child = only_child(grid.pid)
        except BaseException:
            grid.terminate()
            raise
        grid.send_signal(number)
        printed, _ = grid.communicate(timeout=60)
    if number == signal.SIGKILL:
        os.kill(child, signal.SIGSTOP)
        early = subprocess.run(command, **settings, stderr=subprocess.STDOUT)
        os.kill(child, signal.SIGKILL)
        assert early.returncode == 2
        assert 'or a run that it left, is working in' in early.stdout
    else:
        assert grid.returncode == 130
        assert '1 of 1 runs are not done yet' in printed
        assert not Path(f'/proc/{child}').exists()
    assert not (work_dir / 'run.json').exists()
    again = subprocess.run(command, **settings, timeout=300)
    assert again.returncode == 0
    log = (work_dir / 'train.log').read_text()
    assert log.count('Epoch(train)  [1][10/10]') + log.count('[ 1][10/10]') == 1
    assert 'resumed epoch' in log
    result = json.loads((work_dir / 'run.json').read_text())
    assert result['training']['starts'] == 2
    assert result['training']['checkpoint'] == 'epoch_12.pth'
    assert 'Interrupted and resumed: good seed 0' in again.stdout


GRID = """
rows = [
    dict(name='weak', title='Little noise', config='noisy_classifier.py'),
    dict(
        name='strong',
        title='Much noise',
        config='noisy_classifier.py',
        options=['model.neck.std_shift=-2.0', 'train_cfg.max_epochs=12'],
    ),
]
"""


@pytest.mark.slow
def test_killed_grid_ends_with_the_same_table(folder, repo):
    (folder / 'noisy_classifier.py').write_text(
        (TESTS / 'noisy_classifier.py').read_text()
    )
    (folder / 'mine.py').write_text(GRID)
    command = [sys.executable, str(repo / 'tools/grid.py'), 'mine.py', '--out']
    settings = dict(cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
    work_dir = folder / 'killed' / 'strong' / 'seed0'
    with subprocess.Popen(
        [*command, 'killed'], **settings, start_new_session=True
    ) as grid:
        try:
            wait_for(work_dir / 'epoch_2.pth')
        finally:
            os.killpg(grid.pid, signal.SIGKILL)
    assert grid.returncode == -signal.SIGKILL
    assert (folder / 'killed/weak/seed0/run.json').is_file()
    assert not (work_dir / 'epoch_12.pth').exists()
    for out in ('killed', 'whole'):
        subprocess.run([*command, out], **settings, check=True, timeout=3600)
    starts = {}
    for out in ('killed', 'whole'):
        runs = json.loads((folder / out / 'results.json').read_text())['runs']
        starts[out] = [run['training']['starts'] for run in runs]
    assert starts == dict(killed=[1, 2], whole=[1, 1])
    tables = [metric_cells(folder / out / 'table.md') for out in ('killed', 'whole')]
    assert tables[0] == tables[1] and len(tables[0]) == 4
    for run, epoch in (('weak/seed0', 3), ('strong/seed0', 12)):
        first, second = (folder / out / run for out in ('killed', 'whole'))
        assert (first / 'metrics.json').read_text() == (
            second / 'metrics.json'
        ).read_text(), run
        states = [
            torch.load(path / f'epoch_{epoch}.pth', weights_only=False)['state_dict']
            for path in (first, second)
        ]
        for key, value in states[0].items():
            assert torch.equal(value, states[1][key]), (run, key)


def metric_cells(table: Path) -> list[list[str]]:
    """The rows of a table without the columns of times."""
    lines = [line for line in table.read_text().splitlines() if line.startswith('|')]
    return [line.split('|')[:-3] for line in lines]


def wait_for(path: Path) -> None:
    for _ in range(3000):
        if path.is_file():
            return
        time.sleep(0.1)
    raise AssertionError(f'{path} did not come')


def only_child(pid: int) -> int:
    threads = Path(f'/proc/{pid}/task').glob('*/children')
    children = [int(child) for file in threads for child in file.read_text().split()]
    assert len(children) == 1
    return children[0]


def test_fingerprints_tell_training_from_test(folder, tmp_path):
    def made(seed=0, **options):
        cfg = Config.fromfile(folder / 'good.py')
        cfg.merge_from_dict(options)
        return Run.of(cfg, 'good', seed, tmp_path)

    same = made()
    assert made(work_dir='elsewhere') == same
    tested = made(**{'test_evaluator.topk': (1, 5)})
    assert tested.training == same.training and tested.whole != same.whole
    others = [made(seed=1), made(**{'train_cfg.max_epochs': 2})]
    cfg = Config.fromfile(folder / 'good.py')
    others += [Run.of(cfg, 'good', 0, tmp_path, begin=begin) for begin in others]
    assert len({r.training for r in (same, *others)}) == 5
    assert len({r.whole for r in (same, tested, *others)}) == 6


ERRORS = [
    (['none.py'], r'config none\.py does not exist'),
    (['good.py', './good.py'], r'good\.py and \./good\.py would share the folder'),
    (['good.py', '--title', 'x=X'], r"NAME one of \['good'\], got 'x=X'"),
    (['good.py', '--title', 'good'], r"NAME=TITLE .*got 'good'"),
    (
        ['good.py', '--cfg-options', 'test_evaluator=None'],
        r'has no test_evaluator: a grid trains and tests',
    ),
    (['good.py', '--cfg-options', 'default_scope=mmrotate'], r"got 'mmrotate'"),
]


@pytest.mark.parametrize(('arguments', 'message'), ERRORS)
def test_users_errors_come_before_any_run(folder, capfd, arguments, message):
    code, _ = run(folder, *arguments, '--out', 'errors')
    assert code == 2
    error = capfd.readouterr().err.strip()
    assert error.startswith('grid.py: error: ') and '\n' not in error
    assert re.search(message, error)
    assert not (folder / 'errors').exists()


def test_second_grid_is_kept_out_of_the_folder(folder, capfd):
    (folder / 'busy').mkdir()
    with (folder / 'busy/.lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _ = run(folder, 'good.py', '--out', 'busy')
    assert code == 2
    assert re.search(r'another grid, .* is working in .*/busy', capfd.readouterr().err)


@pytest.mark.parametrize('option', [['--jobs', '0'], ['--seeds', '-1']])
def test_impossible_number_is_refused(option, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['good.py', *option])
    assert 'must be at least' in capsys.readouterr().err


def test_a_row_of_wrong_length_is_named() -> None:
    with pytest.raises(ValueError, match=r"row \['a'\] has 1 cells, .* 2 columns"):
        Table([Column('x', ''), Column('y', '')], [['a']])
