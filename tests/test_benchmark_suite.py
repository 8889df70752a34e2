"""tools/benchmark.py --suite: what it measures, and what it prints."""

import json
from pathlib import Path

import pytest
import torch

from aib_mm.cli import benchmark, benchmark_suite
from aib_mm.cli.benchmark_suite import peak_bytes, spread


def test_the_suite_prints_and_writes_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(benchmark_suite, 'LARGE', (2, 1, 8, 8))
    monkeypatch.setattr(benchmark_suite, 'SHORTEST', 1e-4)
    out = [tmp_path / 'suite.json', tmp_path / 'suite.md']
    assert benchmark.main(['--suite', '--threads', '1', '--out', *map(str, out)]) == 0
    assert 'quantiser, small map, Q = 4096' in capsys.readouterr().out
    content = json.loads(out[0].read_text())
    assert content['about']['rounds'] == 10
    times = [row for row in content['rows'] if row['unit'] == 'ms']
    assert len(content['rows']) == 9 and len(times) == 6
    assert all(row['measured'] > 0 and row['copies'] > 0 for row in times)
    assert out[1].read_text().count('maps') >= 3


@pytest.mark.parametrize('arguments', [[], ['--suite', 'config.py']])
def test_configs_or_the_suite(
    arguments: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert benchmark.main(arguments) == 2
    assert 'give either configs to measure, or --suite' in capsys.readouterr().err


def test_the_peak_counts_what_is_held_at_once() -> None:
    def freed_in_between() -> None:
        torch.empty(1000).fill_(0)
        kept = torch.empty(2000)
        torch.cat([kept, torch.empty(500)])

    assert peak_bytes(freed_in_between) == 4 * (2000 + 500 + 2500)


def test_spread_is_half_the_range_between_quartiles() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == 1.0
    assert spread([7.0]) == 0.0
