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
from aib_mm.experiments.cost.results import Cost, cost_table

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
    assert all(float(row[i]) > 0 for row in rows for i in (5, 8, 10))
    assert all(float(row[11]) > 0 for row in rows[:4])
    assert [row[11] for row in rows[4:]] == ['–', '–']
    first, second = json.loads((tmp_path / 'all.json').read_text())['configs']
    assert second['config'] == 'vgg16-narrow_aib_digitscenes'
    assert [mode['mode'] for mode in first['modes']] == [row[1] for row in rows[::2]]
    times = [[len(m[key]) for key in ('seconds', 'wall')] for m in first['modes']]
    assert times == [[2, 2]] * 3
    assert [len(mode['latency']) for mode in first['modes']] == [2, 2, 0]
    # Sixteen images take longer than one.
    assert min(first['modes'][0]['wall']) > min(first['modes'][0]['latency'])
    assert first['modes'][0]['parameters'] == 309890
    assert first['modes'][0]['macs'] == 59355776
    # Both gradients of every layer, but none of the images.
    assert first['modes'][2]['macs'] == 3 * 59355776 - 3 * 8 * 9 * 32 * 32


#: Of two configs.
MEASURED = {
    'test, L_a = 4': [
        Cost(
            [0.2, 0.4, 0.3], [0.5, 0.4, 1.0], [0.01, 0.02, 0.02], 8, 100.0, 2e9, 10**6
        ),
        Cost(
            [0.4, 0.8, 0.9], [1.0, 0.2, 0.5], [0.02, 0.04, 0.03], 8, 250.0, 3e9, 10**7
        ),
    ],
    'training step': [
        Cost([1.0], [1.0], [], 8, 200.0, 6e9, 10**6),
        Cost([3.0], [2.0], [], 8, 500.0, 9e9, 10**7),
    ],
}


def test_a_row_for_each_mode_and_config() -> None:
    table = cost_table(['a', 'b'], MEASURED)
    assert [column.head for column in table.columns][-2:] == [
        'images/s',
        'ms, one image',
    ]
    assert ['|'.join(row) for row in table.rows] == [
        'a|test, L_a = 4|1.00|2.000|1.000|300.0|1.000|–|100|1.00|16.0|20.00',
        'b|test, L_a = 4|10.00|3.000|1.500|800.0|2.000|2.00–3.00|250|2.50|16.0|30.00',
        'a|training step|1.00|6.000|1.000|1000.0|1.000|–|200|1.00|8.0|–',
        'b|training step|10.00|9.000|1.500|3000.0|3.000|3.00–3.00|500|2.50|4.0|–',
    ]


def test_a_column_for_each_config_as_in_table_3() -> None:
    table = cost_table(['a', 'b'], MEASURED, 'models')
    assert [column.head for column in table.columns] == ['', 'a', 'b']
    assert [list(row) for row in table.rows] == [
        ['M parameters', '1.00', '10.00 (×10.00)'],
        ['test, L_a = 4: GMAC an image', '2.000', '3.000 (×1.50)'],
        ['test, L_a = 4: ms, one image', '20.00', '30.00 (×2.00)'],
        # Of the rounds' ratios 2, 0.5 and 0.5 the median is a half.
        ['test, L_a = 4: images/s, 8 at a time', '16.0', '16.0 (×2.00)'],
        ['test, L_a = 4: ms a pass', '300.0', '800.0 (×2.00)'],
        ['test, L_a = 4: MiB', '100', '250 (×2.50)'],
        ['training step: GMAC an image', '6.000', '9.000 (×1.50)'],
        ['training step: images/s, 8 at a time', '8.0', '4.0 (×0.50)'],
        ['training step: ms a pass', '1000.0', '3000.0 (×3.00)'],
        ['training step: MiB', '200', '500 (×2.50)'],
    ]
    with pytest.raises(ValueError, match=r"layout must be one of .* got 'table'"):
        cost_table(['a', 'b'], MEASURED, 'table')


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


@pytest.mark.slow
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
        (
            [str(VANILLA), '--count-only', '--layout', 'models'],
            r'--layout models is not for --count-only',
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
