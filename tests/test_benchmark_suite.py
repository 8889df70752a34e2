"""tools/benchmark.py --suite: what it measures, and what it prints."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from aib_mm.cli import benchmark, benchmark_suite
from aib_mm.cli.benchmark_suite import (
    SuiteRow,
    median_row,
    peak_bytes,
    ratios,
    spread,
    suite_table,
)
from aib_mm.cli.suite import GROUPS, data, models, quantizer, run

NARROW = {
    'VGG': ('mmpretrain/vgg16-narrow_digitscenes.py', (32, 32)),
    'VGG_AIB': ('mmpretrain/vgg16-narrow_aib_digitscenes.py', (32, 32)),
    'VGG_QT': ('mmpretrain/vgg16-narrow_aib_qt_digitscenes.py', (32, 32)),
    'WRN': ('mmpretrain/wrn16-narrow_digitscenes.py', (32, 32)),
    'WRN_AIB': ('mmpretrain/wrn16-narrow_aib_digitscenes.py', (32, 32)),
    'FASTER': ('mmdet/faster_rcnn_r18-narrow_digitscenes.py', (64, 64)),
    'FASTER_QT': ('mmdet/faster_rcnn_r18-narrow_aib_qt_digitscenes.py', (64, 64)),
    'UPERNET': ('mmseg/upernet_beit-narrow_digitscenes.py', (64, 64)),
    'UPERNET_QT': ('mmseg/upernet_beit-narrow_aib_qt_digitscenes.py', (64, 64)),
    'SMALL_IMAGES': (),
    'TEST_BATCHES': (2,),
    'TRAIN_BATCHES': (2,),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything narrow, and nothing repeated."""
    for name, value in NARROW.items():
        monkeypatch.setattr(models, name, value)
    monkeypatch.setattr(quantizer, 'LARGE', (2, 1, 8, 8))
    monkeypatch.setattr(quantizer, 'ANCHORS', (2, 4096))
    monkeypatch.setattr(data, 'TENTH', 100)
    monkeypatch.setattr(data, 'IMAGES', 512)
    monkeypatch.setattr(benchmark_suite, 'SHORTEST', 1e-4)
    # Generated code takes longer than all the rest.
    eager = partial(torch.compile, backend='aot_eager')
    monkeypatch.setattr(torch, 'compile', eager)


@pytest.mark.usefixtures('small')
def test_the_suite_prints_and_writes_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = [tmp_path / 'suite.json', tmp_path / 'suite.md']
    command = ['--suite', 'quantiser', '--threads', '1', '--out', *map(str, out)]
    assert benchmark.main(command) == 0
    assert 'quantiser, small map, Q = 4096' in capsys.readouterr().out
    content = json.loads(out[0].read_text())
    assert content['about']['rounds'] == 10
    times = [row for row in content['rows'] if row['unit'] == 'ms']
    assert len(content['rows']) == 10 and len(times) == 4
    assert all(row['measured'] > 0 and row['copies'] > 0 for row in times)
    for row in content['rows']:
        assert row['reached'] == (row['measured'] <= row['aim'])
    assert out[1].read_text().count('maps') >= 3


@pytest.mark.usefixtures('small')
def test_rows_of_classifiers() -> None:
    pytest.importorskip('mmpretrain.models')
    found = {row.name: row for row in models.classifier_rows(1)}
    name = 'VGG-aib, 4×4 test, batch 2'
    assert found[f'{name}: bound'].aim == 1.05
    assert found[name].aim is None
    assert found['VGG-aib, training step, batch 2: memory'].measured > 0.5
    assert found['VGG-aib-qt, training step, batch 2'].aim == 1.05
    # The narrow pair's own: 1.44 at four samples is in docs/performance.md.
    assert found['WRN-28-10-aib, 4×4 test'].aim == pytest.approx(1.44 / 0.45, rel=0.03)
    assert found[f'{name}: fold, channels-last, bf16'].aim == 1.6
    assert len(found) == 10


@pytest.mark.slow
@pytest.mark.usefixtures('small')
@pytest.mark.parametrize(
    ('group', 'count'),
    [
        (models.detector_rows, 3),
        (models.segmentor_rows, 3),
        (models.memory_rows, 3),
        (data.data_rows, 3),
    ],
)
def test_rows_of_other_groups(
    group: Callable[[int], Iterator[SuiteRow]], count: int
) -> None:
    pytest.importorskip('mmdet.models')
    rows = list(group(2))
    assert len(rows) == count
    assert all(row.measured > 0 and row.aim is not None for row in rows)


@pytest.mark.slow
def test_start_up_is_that_of_this_package_alone() -> None:
    pytest.importorskip('mmpretrain.models')
    rows = list(data.start_up_rows(1))
    assert {row.unit for row in rows} == {'s'}
    assert all(0 < row.measured < 10 for row in rows)


def test_a_group_without_its_host_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(run, 'is_installed', lambda host: host != 'mmseg')
    assert benchmark.main(['--suite', 'segmentation', '--threads', '1']) == 0
    assert 'segmentation was left out: mmseg not installed' in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [[], ['config.py', '--suite']])
def test_configs_or_the_suite(
    arguments: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert benchmark.main(arguments) == 2
    assert 'give either configs to measure, or --suite' in capsys.readouterr().err


def test_an_unknown_group(capsys: pytest.CaptureFixture) -> None:
    assert benchmark.main(['--suite', 'speed']) == 2
    message = f'--suite speed: there is no such group; there are {", ".join(GROUPS)}'
    assert message in capsys.readouterr().err


def test_the_peak_counts_what_is_held_at_once() -> None:
    def freed_in_between() -> None:
        torch.empty(1000).fill_(0)
        kept = torch.empty(2000)
        torch.cat([kept, torch.empty(500)])

    assert peak_bytes(freed_in_between) == 4 * (2000 + 500 + 2500)


def test_spread_is_half_the_range_between_quartiles() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == 1.0
    assert spread([7.0]) == 0.0


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


@pytest.mark.parametrize(
    ('aim', 'cell', 'reached'), [(2.0, '≤ 2 ×', 'yes'), (1.9, '≤ 1.9 ×', 'no')]
)
def test_an_aim_is_the_most_that_reaches_it(
    aim: float, cell: str, reached: str
) -> None:
    row = median_row('name', 'what', aim, [1.0, 2.0, 4.0])
    assert row.measured == 2.0
    (cells,) = suite_table([row]).rows
    assert cells[2] == cell and cells[-1] == reached


def test_what_has_no_aim_neither_reaches_nor_misses_it() -> None:
    row = median_row('name', 'what', None, [1.0])
    assert row.reached is None
    (cells,) = suite_table([row]).rows
    assert cells[2] == cells[-1] == '–'
