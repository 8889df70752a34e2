"""tools/grid.py: real runs, resuming, failures, the table, users' errors."""

import errno
import fcntl
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from cifar_files import TESTS, environment, write_cifar10
from mmengine.config import Config
from rich.console import Console

from aib_mm.cli.grid import main
from aib_mm.experiments.grid import engine
from aib_mm.experiments.grid.engine import Engine
from aib_mm.experiments.grid.notes import Result, Run, RunFailed, Training, finished
from aib_mm.experiments.grid.progress import pace_in, position_in
from aib_mm.experiments.grid.results import GridResults
from aib_mm.experiments.grid.run import Execution
from aib_mm.training.checkpoint import POINTER, RESUME_KEYS
from aib_mm.utils.tables import ABSENT

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


LOG = '2026/01/01 00:00:00 - mmengine - INFO - {}'


@pytest.mark.parametrize(
    ('line', 'epochs', 'share', 'text'),
    [
        (
            'Epoch(train)   [3][ 50/100]  lr: 1.0e-01  eta: 1 day, 3:04:05  time: 0.1'
            '  loss: 2.5  loss_cls: 9.0',
            10,
            0.25,
            'epoch 3/10, loss 2.5, eta 1 day, 3:04:05',
        ),
        ('Epoch(train) [3][100/100]  loss: nan', None, None, 'epoch 3, loss nan'),
        ('Iter(train) [  20/1000]  lr: 1e-4', None, 0.02, 'iteration 20/1000'),
        ('Epoch(val) [2][10/40]    coco/bbox_mAP: 0.1', 12, None, 'validation 10/40'),
        ('Iter(test) [10/40]    eta: 0:00:01', None, 0.25, 'test 10/40'),
    ],
)
def test_position_is_read_from_the_last_line_that_has_one(line, epochs, share, text):
    before = LOG.format('Epoch(train) [1][1/100]  loss: 7.0')
    log = f'{before}\n{LOG.format(line)}\nExp name: Epoch\n'
    position = position_in(log, epochs)
    assert position.text == text
    assert position.share == (share if share is None else pytest.approx(share))


def test_pace_is_that_of_the_training():
    lines = [
        'Epoch(train) [1][10/20]  time: 0.5  data_time: 9.0  memory: 100  loss: 2.5',
        'Epoch(train) [1][20/20]  time: 0.3  data_time: 9.0  memory: 200  loss: 2.5',
        'Epoch(val) [1][10/10]  top1: 1.0  time: 7.0  memory: 900',
    ]
    assert pace_in('\n'.join(map(LOG.format, lines))) == (pytest.approx(0.4), 200)
    assert pace_in('Iter(train) [1/20]  time: 0.5  loss: 1') == (0.5, None)
    assert pace_in('Epoch(val) [1][10/10]  time: 7.0') == (None, None)


def test_no_position_in_a_log_without_one():
    assert position_in('Traceback: Epoch(train)', 3) is None


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
    assert len({r.training for r in (same, *others)}) == 3
    assert len({r.whole for r in (same, tested, *others)}) == 4


class Rehearsal(Execution):
    """Notes what would be called; the training leaves a checkpoint, or not."""

    def __init__(self, run, leaves=True):
        super().__init__(run, {})
        self.calls, self.leaves = [], leaves

    def _call(self, program, arguments, log):
        self.calls.append([program, *arguments])
        folder = self.run.work_dir
        if program == 'test':
            (folder / 'metrics.json').write_text('{"mIoU": 1.5}')
        elif self.leaves:
            torch.save({key: {} for key in RESUME_KEYS}, folder / 'epoch_1.pth')
            (folder / 'last_checkpoint').write_text('/moved/since/epoch_1.pth')
            log.write_text(LOG.format('Epoch(train) [1][1/1]  time: 0.5  loss: 1'))
        yield program, None

    @property
    def resumed(self):
        return [call[2] for call in self.calls if '--resume' in call]


def work(execution, force=False):
    """Go through all of a run; its result."""
    job = execution(force)
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


@pytest.fixture
def interrupted(tmp_path):
    """A run whose training was stopped after a checkpoint."""
    made = make_run('a', 0, tmp_path)
    job = Rehearsal(made)()
    assert next(job) == ('train', None)
    job.close()
    return made


def test_interrupted_training_goes_on_where_it_was(interrupted):
    assert finished(interrupted) is None
    again = Rehearsal(interrupted)
    result = work(again)
    assert again.resumed == [str(interrupted.work_dir / 'epoch_1.pth')]
    assert result.training.starts == 2 and result.metrics == {'mIoU': 1.5}
    assert finished(interrupted) == result


def test_force_and_other_settings_train_from_the_start(interrupted):
    for made, force in ((interrupted, True), (replace(interrupted, training='x'), 0)):
        anew = Rehearsal(made)
        assert work(anew, bool(force)).training.starts == 1
        assert [call[0] for call in anew.calls] == ['train', 'test']
        assert anew.resumed == []


def test_interrupted_test_needs_no_new_training(interrupted):
    work(Rehearsal(interrupted))
    (interrupted.work_dir / 'run.json').unlink()
    tested = Rehearsal(interrupted)
    assert work(tested).training.starts == 2
    assert [call[0] for call in tested.calls] == ['test']
    (interrupted.work_dir / 'epoch_1.pth').unlink()
    lost = Rehearsal(interrupted)
    work(lost)
    assert [call[0] for call in lost.calls] == ['train', 'test'] and not lost.resumed


def test_unusable_checkpoint_is_not_resumed(interrupted):
    (interrupted.work_dir / 'epoch_1.pth').write_bytes(b'cut sho')
    anew = Rehearsal(interrupted)
    assert work(anew).training.starts == 1 and anew.resumed == []


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, 'No space left on device')


def test_a_full_disk_costs_no_training(tmp_path, monkeypatch):
    class Filling(Rehearsal):
        def _call(self, program, arguments, log):
            yield from super()._call(program, arguments, log)
            monkeypatch.setattr('aib_mm.utils.files.os.fsync', full)
            raise RunFailed('train ended with 1', log)

    made = make_run('a', 0, tmp_path)
    with pytest.raises(RunFailed, match='train ended with 1'):
        work(Filling(made))
    monkeypatch.undo()
    assert json.loads((made.work_dir / 'training.json').read_text())['starts'] == 1
    again = Rehearsal(made)
    assert work(again).training.starts == 2
    assert again.resumed == [str(made.work_dir / 'epoch_1.pth')]


@pytest.mark.parametrize('text', ['', '[]', '{"fingerpr', '{}'])
def test_a_damaged_note_costs_no_training(interrupted, text):
    note = interrupted.work_dir / 'training.json'
    note.write_text(text)
    anew = Rehearsal(interrupted)
    with pytest.raises(RunFailed, match=r'training\.json cannot be read .*--force'):
        work(anew)
    assert not anew.calls and (interrupted.work_dir / POINTER).is_file()
    assert work(anew, force=True).training.starts == 1 and anew.resumed == []


@pytest.mark.parametrize('text', ['', '[1]', None])
def test_a_test_without_metrics_fails(interrupted, text):
    class Mute(Rehearsal):
        def _call(self, program, arguments, log):
            yield from super()._call(program, arguments, log)
            out = self.run.work_dir / 'metrics.json'
            if program == 'test' and text is not None:
                out.write_text(text)
            elif program == 'test':
                out.unlink()

    with pytest.raises(RunFailed, match=r'left no metrics .*see .*test\.log') as error:
        work(Mute(interrupted))
    assert error.value.tail() == ''


def test_any_error_of_a_run_stops_no_other(tmp_path, monkeypatch):
    class Moody(Rehearsal):
        def __init__(self, run, *_):
            super().__init__(run)

        def _call(self, program, arguments, log):
            yield from super()._call(program, arguments, log)
            if program == 'test':
                (self.run.work_dir / 'metrics.json').write_text('{"mIoU": NaN}')
            if self.run.name == 'a':
                full(0)

    monkeypatch.setattr(engine, 'Execution', Moody)
    runs = [make_run(name, 0, tmp_path) for name in 'abc']
    results = results_of(runs, jobs=2)
    console = Console(file=io.StringIO())
    grid = Engine(results, tmp_path, {}, console)
    assert grid() == 1
    assert list(results.failures) == runs[:1] and set(results.results) == {*runs[1:]}
    assert 'No space left on device' in results.failures[runs[0]]
    text = (tmp_path / 'results.json').read_text()
    content = json.loads(text, parse_constant=pytest.fail)
    assert content['runs'][1]['metrics'] == {'mIoU': None}
    assert f'| b | 1 | {ABSENT} | ' in (tmp_path / 'table.md').read_text()
    monkeypatch.setattr('aib_mm.utils.files.os.fsync', full)
    assert not grid._write()
    assert 'are not up to date: OSError' in console.file.getvalue()
    assert (tmp_path / 'results.json').read_text() == text


def test_seeds_without_a_number_are_left_out(tmp_path):
    runs = [make_run('a', seed, tmp_path) for seed in range(3)]
    results = results_of(runs)
    for made, value in zip(runs, (90.0, math.nan, 92.0), strict=True):
        done = Result('w', Training('f', 'e.pth', 1.0, 1), 1.0, dict(top1=value))
        results.results[made] = done
    assert results.table().rows[0][:3] == ['a', '3', '91.00 ± 1.41 (n=2)']


def results_of(runs, **settings):
    titles = {made.name: made.name for made in runs}
    about = dict(metrics=[], command='c', jobs=1, threads='1')
    return GridResults(titles=titles, runs=runs, **{**about, **settings})


def test_training_without_a_checkpoint_fails(tmp_path):
    made = make_run('a', 0, tmp_path)
    with pytest.raises(RunFailed, match=r'left no checkpoint, see .*train\.log'):
        work(Rehearsal(made, leaves=False))


@pytest.mark.parametrize('text', ['', '[]', '{"fingerprint": "whole"}', None])
def test_damaged_note_is_no_finished_run(tmp_path, text):
    made = make_run('a', 0, tmp_path)
    made.work_dir.mkdir()
    if text is not None:
        (made.work_dir / 'run.json').write_text(text)
    assert finished(made) is None


def test_table_of_means(tmp_path):
    runs = [make_run(name, seed, tmp_path) for seed in (0, 1) for name in 'ab']
    metrics = [
        dict(map=0.5, top1=90.0, classwise=[1.0], note='x', ok=True),
        dict(map=0.25, kl=3.0),
        dict(map=0.6, top1=92.0),
    ]
    results = GridResults(
        titles=dict(a='A', b='B'),
        runs=runs,
        metrics=[],
        command='c',
        jobs=1,
        threads='1',
    )
    for made, values in zip(runs, metrics, strict=False):
        training = Training('f', 'epoch_1.pth', 10.0 + made.seed, 1 + made.seed)
        results.results[made] = Result('w', training, 2.0, values)
    table = results.table()
    heads = [column.head for column in table.columns]
    assert heads == ['config', 'seeds', 'map', 'top1', 'kl', 'train s', 'test s']
    assert list(table.rows) == [
        ['A', '2', '0.550 ± 0.071', '91.00 ± 1.41', ABSENT, '10 ± 1', '2 ± 0'],
        ['B', '1', '0.250', ABSENT, '3.00', '10', '2'],
    ]
    notes = '\n'.join(results.notes())
    assert '1 of 4 runs are not done yet' in notes
    assert 'Interrupted and resumed: a seed 1.' in notes
    results.metrics = ['top1', 'none']
    assert [column.head for column in results.table().columns][2:4] == ['top1', 'none']
    assert 'No run reported none; there are map, top1, kl.' in '\n'.join(
        results.notes()
    )


def make_run(name, seed, folder):
    folder = folder / f'{name}{seed}'
    return Run(name, seed, folder / f'{name}.py', folder, 'training', 'whole', 1)


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
