"""A grid's rows against one of them: intervals, verdicts, the second table."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from aib_mm.cli.grid import main
from aib_mm.errors import UsageError
from aib_mm.experiments.grid.against import Difference, difference, read_margins
from aib_mm.experiments.grid.notes import Result, Run, Training
from aib_mm.experiments.grid.results import GridResults

pytest.importorskip('mmpretrain')


def welch(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Welch's interval as in his paper: its degrees of freedom by Satterthwaite."""
    a, b = np.var(x, ddof=1) / len(x), np.var(y, ddof=1) / len(y)
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    half = student.ppf(0.975, freedom) * math.sqrt(a + b)
    mean = np.mean(x) - np.mean(y)
    return mean, mean - half, mean + half


def test_the_interval_is_welchs() -> None:
    x, y = [93.1, 94.0, 93.6, 92.8, 93.5], [94.6, 94.1, 94.9]
    assert difference(x, y) == pytest.approx(welch(x, y), rel=1e-9)
    assert difference(y, x).mean == -difference(x, y).mean


def test_too_few_values_decide_nothing_and_equal_ones_everything() -> None:
    assert difference([1.0], [2.0, 3.0]) is None
    assert difference([1.0, 1.0], [3.0, 3.0]) == (-2.0, -2.0, -2.0)


@pytest.mark.parametrize(
    ('low', 'high', 'margin', 'verdict'),
    [
        (0.1, 2.0, 1.0, 'higher'),
        (-3.0, -0.1, None, 'lower'),
        (-0.9, 2.0, 1.0, 'not lower by 1'),
        (-2.0, 0.9, 1.0, 'not higher by 1'),
        (-0.9, 0.9, 1.0, 'equal within 1'),
        (-2.0, 2.0, 1.0, 'undecided'),
        (-0.5, 0.5, None, 'undecided'),
    ],
)
def test_verdicts(low: float, high: float, margin: float | None, verdict: str) -> None:
    assert Difference((low + high) / 2, low, high).verdict(margin) == verdict


def results(values: dict[str, list[float]], **settings) -> GridResults:
    found = {
        Run(name, seed, Path(), Path(), 'f', 'w'): Result(
            'f', Training('w', 'last.pth', 1.0), 1.0, {'accuracy/top1': value}
        )
        for name, row in values.items()
        for seed, value in enumerate(row)
    }
    return GridResults(
        titles={name: name.upper() for name in values},
        runs=list(found),
        command='c',
        jobs=1,
        threads='1',
        results=found,
        **settings,
    )


def test_the_second_table_compares_the_other_rows() -> None:
    values = dict(a=[93.0, 94.0, 95.0], base=[94.0, 94.5, 95.5], one=[90.0])
    grid = results(values, against='base', margins={'accuracy/top1': 5.0})
    first, second = grid.tables().values()
    assert list(grid.tables()) == ['', 'Against BASE']
    assert [column.head for column in second.columns] == ['config', 'accuracy/top1']
    mean, low, high = welch(values['a'], values['base'])
    cell = f'{mean:+.2f} [{low:+.2f}, {high:+.2f}] equal within 5'
    assert second.rows == [['A', cell], ['ONE', '–']]
    assert len(first.rows) == 3
    assert any('Welch' in note for note in grid.notes())
    alone = results(values)
    assert list(alone.tables()) == [''] and 'Welch' not in ' '.join(alone.notes())


def test_users_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / 'a.py'
    config.write_text('')
    assert main([str(config), '--against', 'b']) == 2
    assert "--against takes one of ['a'], got 'b'" in capsys.readouterr().err
    assert read_margins(['x=0.5', 'a=b=1']) == {'x': 0.5, 'a=b': 1.0}
    for text in ('1', 'x=', 'x=0', 'x=-1', 'x=nan', '=1'):
        with pytest.raises(UsageError, match=r'--margin takes KEY=NUMBER.*got'):
            read_margins([text])
