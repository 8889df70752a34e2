"""tools/benchmark.py: real runs, and what its table says."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cifar_files import environment

from aib_mm.cli import benchmark

CONFIGS = Path(__file__).parents[1] / 'configs'
VANILLA = CONFIGS / 'mmpretrain' / 'vgg16-narrow_digitscenes.py'
AIB = CONFIGS / 'mmpretrain' / 'vgg16-narrow_aib_digitscenes.py'

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('mmpretrain') is None, reason='needs mmpretrain'
)


def rows_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith('| vgg')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


def test_the_table_has_every_mode_and_its_ratio(tmp_path: Path, repo: Path) -> None:
    command = [sys.executable, repo / 'tools/benchmark.py', VANILLA, AIB]
    options = ['--size', '32', '32', '--batch', '16', '--rounds', '2', '--threads', '1']
    done = subprocess.run(
        [*map(str, command), *options, '--samples', '0', '4', '--out', 'table.md'],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = rows_of((tmp_path / 'table.md').read_text())
    assert [(name, mode) for name, mode, *_ in rows] == [
        ('vgg16-narrow_digitscenes', 'test, L_a = 0'),
        ('vgg16-narrow_aib_digitscenes', 'test, L_a = 0'),
        ('vgg16-narrow_digitscenes', 'test, L_a = 4'),
        ('vgg16-narrow_aib_digitscenes', 'test, L_a = 4'),
        ('vgg16-narrow_digitscenes', 'training step'),
        ('vgg16-narrow_aib_digitscenes', 'training step'),
    ]
    ratios = [float(row[3]) for row in rows]
    assert ratios[::2] == [1.0] * 3
    # Four encoder passes cost more than one; how much is not for a test.
    assert ratios[3] > ratios[1]
    assert all(float(row[2]) > 0 and float(row[5]) > 0 for row in rows)


@pytest.mark.skipif(importlib.util.find_spec('mmdet') is None, reason='needs mmdet')
def test_foreign_heads_get_their_hook_and_a_profile_is_printed(
    tmp_path: Path, repo: Path
) -> None:
    config = CONFIGS / 'mmdet' / 'retinanet_r50_aib_qt.py'
    command = [sys.executable, repo / 'tools/benchmark.py', config, '--samples', '0']
    options = ['--size', '64', '64', '--batch', '1', '--rounds', '1', '--profile', '3']
    done = subprocess.run(
        [*map(str, command), *options],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'retinanet_r50_aib_qt, training step:' in done.stdout
    assert 'convolution' in done.stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([str(VANILLA), '--size', '0', '32'], r'--size must be .* got \[0, 32\]'),
        ([str(VANILLA), '--samples', '-1'], r'--samples must not be .* got \[-1\]'),
        (['absent.py'], r'config absent\.py does not exist'),
        ([str(VANILLA), '--rounds', '0'], r'--rounds must be at least 1, got 0'),
    ],
)
def test_users_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert benchmark.main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count('\n') == 1
