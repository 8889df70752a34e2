"""tools/benchmark.py: real runs, and what its table says."""

import importlib.util
import json
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
        [
            *map(str, command),
            *options,
            '--samples',
            '0',
            '4',
            '--out',
            'table.md',
            'all.json',
        ],
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
    assert [row[2] for row in rows] == ['0.31', '0.32'] * 3
    assert [row[3] for row in rows[:4]] == ['0.059', '0.060', '0.059', '0.154']
    ratios = [float(row[6]) for row in rows]
    assert ratios[::2] == [1.0] * 3
    # Four encoder passes cost more than one; how much is not for a test.
    assert ratios[3] > ratios[1]
    assert all(float(row[5]) > 0 and float(row[8]) > 0 for row in rows)
    first, second = json.loads((tmp_path / 'all.json').read_text())['configs']
    assert second['config'] == 'vgg16-narrow_aib_digitscenes'
    assert [mode['mode'] for mode in first['modes']] == [row[1] for row in rows[::2]]
    assert all(len(mode['seconds']) == 2 for mode in first['modes'])
    assert first['modes'][0]['parameters'] == 309890
    assert first['modes'][0]['macs'] == 59355776
    # Both gradients of every layer, but none of the images.
    assert first['modes'][2]['macs'] == 3 * 59355776 - 3 * 8 * 9 * 32 * 32


def count(tmp_path: Path, *arguments: str | Path) -> dict[str, dict]:
    out = tmp_path / 'counts.json'
    options = [
        '--count-only',
        '--size',
        '32',
        '32',
        '--threads',
        '1',
        '--out',
        str(out),
    ]
    assert benchmark.main([*map(str, arguments), *options]) == 0
    return {c['config']: c for c in json.loads(out.read_text())['configs']}


def test_counts_need_no_clock_and_follow_the_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    found = count(tmp_path, VANILLA, AIB, '--batch', '3')
    vanilla, aib = found.values()
    assert vanilla['parameters'] == 309890 and aib['parameters'] == 322948
    assert vanilla['one_sample'] == vanilla['test'] == 59355776
    assert vanilla['samples'] == {} and aib['samples'] == dict(L_a=4, L_z=4)
    assert sum(aib['parts'].values()) == aib['one_sample']
    # Four encoder passes; 4 x 4 latents are decoded instead of one.
    decoder = 64 * 64 + 64 * 10
    encoder = aib['parts']['head'] - decoder
    extractor = aib['parts']['backbone'] + aib['parts']['neck']
    assert aib['test'] == extractor + 4 * encoder + 16 * decoder
    # The two 3x3 convs of the attention on a map of 16x16.
    assert aib['parts']['neck'] == 2 * 32 * 9 * 16 * 16
    printed = capsys.readouterr().out
    assert 'L_a = 4, L_z = 4' in printed and ' ms' not in printed


def test_rows_of_a_grid_are_counted(tmp_path: Path) -> None:
    grid = CONFIGS / 'mmpretrain' / 'grids' / 'table2_digitscenes.py'
    found = count(tmp_path, grid, '--only', 'vgg_aib', 'vgg_aib_additive')
    plain, noisy = found.values()
    assert [name[:1] for name in found] == ['3', '8']
    assert noisy['samples'] == dict(L_a=4, L_z=4)
    # Every sample of the noise passes the encoder.
    assert noisy['test'] > 3.5 * noisy['one_sample'] > 3.5 * plain['parts']['head']


@pytest.mark.skipif(importlib.util.find_spec('mmseg') is None, reason='needs mmseg')
def test_an_optimizer_constructor_of_the_host_is_found(tmp_path: Path) -> None:
    config = CONFIGS / 'mmseg' / 'upernet_beit-narrow_aib_digitscenes.py'
    decay = dict(num_layers=4, decay_rate=0.9, decay_type='layer_wise')
    options = [f'optim_wrapper.paramwise_cfg.{key}={decay[key]}' for key in decay]
    options.append('optim_wrapper.constructor=LearningRateDecayOptimizerConstructor')
    options.append('model.backbone.img_size=(32,32)')
    (found,) = count(tmp_path, config, '--cfg-options', *options).values()
    assert found['samples'] == dict(L_a=2, L_z=1)


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
        (
            [str(VANILLA), '--out', 'table.csv'],
            r'writes .md and .json files, got table',
        ),
        ([str(VANILLA), '--rounds', '0'], r'--rounds must be at least 1, got 0'),
    ],
)
def test_users_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert benchmark.main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count('\n') == 1
