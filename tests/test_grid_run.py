"""A grid's runs without their processes: logs, notes, resuming, results."""

import errno
import io
import json
import math
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from aib_mm.experiments.grid import engine, guard
from aib_mm.experiments.grid.engine import Engine
from aib_mm.experiments.grid.notes import Result, Run, RunFailed, Training, finished
from aib_mm.experiments.grid.progress import pace_in, position_in
from aib_mm.experiments.grid.results import GridResults
from aib_mm.experiments.grid.run import Execution
from aib_mm.training.checkpoint import POINTER, RESUME_KEYS
from aib_mm.utils.tables import ABSENT

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


def test_a_file_that_the_test_left_belongs_to_the_run(interrupted):
    made = replace(interrupted, leaves='maps.npz')
    result = work(Rehearsal(made))
    assert finished(made) is None
    (made.work_dir / 'maps.npz').touch()
    assert finished(made) == result
    assert result.training.speed == pytest.approx(2 * made.batch_size)


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
    grid = Engine(results, tmp_path, [{}, {}], console)
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


def test_runs_side_by_side_have_an_environment_each(tmp_path, monkeypatch):
    at_work, seen = [], []

    class Watched(Rehearsal):
        def __init__(self, run, environment):
            super().__init__(run)
            self.gpu = environment['CUDA_VISIBLE_DEVICES']

        def __call__(self, force=False):
            at_work.append(self.gpu)
            assert len(set(at_work)) == len(at_work) <= 2
            seen.append((self.run.name, self.gpu))
            result = yield from super().__call__(force)
            at_work.remove(self.gpu)
            return result

    monkeypatch.setattr(engine, 'Execution', Watched)
    monkeypatch.setattr(engine, 'POLL_SECONDS', 0)
    monkeypatch.setattr(guard.torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5,7')
    environments = guard.environments_of(2, guard.usable_gpus())
    runs = [make_run(name, 0, tmp_path) for name in 'abcd']
    results = results_of(runs, jobs=2)
    results.runs = runs[:3]
    grid = Engine(results, tmp_path, environments, Console(file=io.StringIO()))
    assert grid() == 0
    # What came later is done by itself.
    results.runs = runs
    assert grid() == 0
    assert [name for name, _ in seen] == ['a', 'b', 'c', 'd']
    assert {gpu for _, gpu in seen} == {'3', '5'} and set(results.results) == {*runs}


@pytest.mark.parametrize('fails', [False, True])
def test_a_run_waits_for_the_one_it_begins_with(tmp_path, monkeypatch, fails):
    calls, order = {}, []

    class Noted(Rehearsal):
        def __init__(self, run, *_):
            super().__init__(run, leaves=not (fails and run.name == 'a'))
            calls[run.name] = self.calls

        def __call__(self, force=False):
            order.append(self.run.name)
            return (yield from super().__call__(force))

    monkeypatch.setattr(engine, 'Execution', Noted)
    monkeypatch.setattr(engine, 'POLL_SECONDS', 0)
    first, *others = (make_run(name, 0, tmp_path) for name in 'abc')
    runs = [first, replace(others[0], begin=first), others[1]]
    results = results_of(runs, jobs=2)
    grid = Engine(results, tmp_path, [{}, {}], Console(file=io.StringIO()))
    assert grid() == int(fails)
    assert order == ['a', 'c', 'b']
    if fails:
        said = 'a seed 0, whose weights it begins with, is not done'
        assert said in results.failures[runs[1]] and not calls['b']
    else:
        train = calls['b'][0]
        assert train[1:3] == ['--load-from', str(first.work_dir / 'epoch_1.pth')]
        assert '--load-from' not in calls['c'][0]


def test_what_was_begun_is_resumed_without_the_weights_of_another(interrupted):
    again = Rehearsal(replace(interrupted, begin=interrupted))
    work(again)
    assert again.resumed and '--load-from' not in again.calls[0]


def test_more_runs_than_gpus_share_them(monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(guard, 'usable_cores', lambda: 12)
    monkeypatch.setattr(guard.torch.cuda, 'device_count', lambda: 2)
    found = guard.environments_of(3, guard.usable_gpus())
    assert [each['CUDA_VISIBLE_DEVICES'] for each in found] == ['0', '1', '0']
    assert {each['OMP_NUM_THREADS'] for each in found} == {'4'}
    monkeypatch.setattr(guard.torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '1')
    name = 'MALLOC_MMAP_THRESHOLD_'
    monkeypatch.delenv(name, raising=False)
    (hidden,) = guard.environments_of(1, [guard.NO_GPU])
    assert hidden['CUDA_VISIBLE_DEVICES'] == '-1'
    (alone,) = guard.environments_of(1, guard.usable_gpus())
    assert 'CUDA_VISIBLE_DEVICES' not in alone
    # On CPUs freed memory is kept; what the user says has the last word.
    assert {hidden[name], alone[name]} == {str(1 << 30)}
    assert alone['MALLOC_TRIM_THRESHOLD_'] == '1'


def test_weights_of_another_run_are_only_tested(interrupted, tmp_path):
    work(Rehearsal(interrupted))
    checkpoint = interrupted.work_dir / 'epoch_1.pth'
    other = replace(make_run('b', 0, tmp_path), checkpoint=checkpoint)
    for force in (False, True):
        tested = Rehearsal(other)
        assert work(tested, force).metrics == {'mIoU': 1.5}
        ((program, first, *_),) = tested.calls
        assert (program, first) == ('test', str(checkpoint))
    assert finished(other) is not None
    assert not (other.work_dir / 'training.json').exists()


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
    return Run(name, seed, folder / f'{name}.py', folder, 'training', 'whole', 1, 8)
