"""tools/benchmark.py: real runs, and what its table says."""

import importlib.util
import json
import re
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from test_aib_classifiers import run

from aib_mm.cli import benchmark
from aib_mm.experiments.cost.model import CostModel
from aib_mm.experiments.cost.results import Cost, cost_table
from aib_mm.experiments.cost.timing import peak_bytes, timed
from aib_mm.utils.wrappers import input_channels

CONFIGS = Path(__file__).parents[1] / 'configs'
VANILLA = CONFIGS / 'mmpretrain' / 'vgg16-narrow_digitscenes.py'
AIB = CONFIGS / 'mmpretrain' / 'vgg16-narrow_aib_digitscenes.py'

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('mmpretrain') is None, reason='needs mmpretrain'
)


def rows_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith('| vgg')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


@pytest.mark.parametrize('channels', [1, 4])
def test_images_have_the_models_channels(channels: int) -> None:
    cfg = Config.fromfile(AIB)
    cfg.model.backbone.in_channels = channels
    cfg.data_preprocessor.update(mean=[120.0] * channels, std=[60.0] * channels)
    subject = CostModel(cfg, (32, 32), batch=2)
    assert {tuple(image.shape) for image in subject.data['inputs']} == {
        (channels, 32, 32)
    }
    for samples in (None, 0, 2):
        subject.step(samples)()
    subject.step(1, alone=True)()


def test_no_weights_that_a_config_names_are_loaded() -> None:
    cfg = Config.fromfile(AIB)
    for part in (cfg.model.backbone, cfg.model.neck):
        part.init_cfg = dict(type='Pretrained', checkpoint='none/such.pth')
    CostModel(cfg, (32, 32), batch=2).step(None)()


@pytest.mark.parametrize(
    ('host', 'backbone'),
    [
        ('mmdet', dict(type='ResNet', depth=18, in_channels=5)),
        ('mmdet', dict(type='SwinTransformer', in_channels=5, depths=(1, 1, 1, 1))),
        # Its first conv sees four pixels at once.
        ('mmdet', dict(type='CSPDarknet')),
        ('mmseg', dict(type='BEiT', in_channels=5, num_layers=1)),
        ('mmpretrain', dict(type='ConvNeXt', in_channels=5)),
    ],
)
def test_channels_of_an_image_by_the_model(host: str, backbone: dict) -> None:
    pytest.importorskip(host)
    with DefaultScope.overwrite_default_scope(host):
        model = torch.nn.ModuleDict(dict(backbone=MODELS.build(backbone)))
    model.backbone = model['backbone']
    assert input_channels(model) == backbone.get('in_channels', 3)
    assert input_channels(torch.nn.Linear(2, 2)) == 3


@pytest.mark.slow
def test_the_table_has_every_mode_and_its_ratio(tmp_path: Path, repo: Path) -> None:
    options = '--size 32 32 --batch 16 --rounds 2 --threads 1 --samples 0 4'
    files = ['--out', 'table.md', 'all.json']
    command = [repo / 'tools/benchmark.py', VANILLA, AIB, *options.split(), *files]
    run(sys.executable, *command, cwd=tmp_path)
    rows = rows_of((tmp_path / 'table.md').read_text())
    assert [(name, mode) for name, mode, *_ in rows] == [
        ('vgg16-narrow_digitscenes', 'test, L_a = 0'),
        ('vgg16-narrow_aib_digitscenes', 'test, L_a = 0'),
        ('vgg16-narrow_digitscenes', 'test, L_a = 4'),
        ('vgg16-narrow_aib_digitscenes', 'test, L_a = 4'),
        ('vgg16-narrow_digitscenes', 'training step'),
        ('vgg16-narrow_aib_digitscenes', 'training step'),
    ]
    parameters, macs, milliseconds, memory, rate, alone = zip(
        *(row[2:] for row in rows), strict=True
    )
    assert parameters == ('0.31', '0.32 (×1.042)') * 3
    assert macs[:4] == ('0.059', '0.060 (×1.003)', '0.059', '0.154 (×2.591)')
    found = [re.fullmatch(r'[\d.]+ \(×([\d.]+), .*\)', cell) for cell in milliseconds]
    assert found[::2] == [None] * 3, 'the first config is what the others are beside'
    # Four encoder passes cost more than one; how much is not for a test.
    assert float(found[3][1]) > float(found[1][1])
    assert all(float(cell.split()[0]) > 0 for cell in milliseconds + memory + rate)
    assert all(float(cell.split()[0]) > 0 for cell in alone[:4])
    assert alone[4:] == ('–', '–')
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
    # The weights, and with their gradients and AdamW's two moments.
    sizes = [mode['memory'] for mode in first['modes']]
    weights = 4 * 309890 / 2**20
    assert sizes[0] > weights and sizes[2] > 3 * weights
    # Both gradients of every layer, but none of the images.
    assert first['modes'][2]['macs'] == 3 * 59355776 - 3 * 8 * 9 * 32 * 32


def cost(
    seconds: list[float],
    throughput: list[float],
    latency: list[float],
    memory: float,
    macs: float,
    parameters: int,
) -> Cost:
    return dict(locals(), wall=seconds)


#: What two configs cost in two modes.
MEASURED = {
    'test, L_a = 4': [
        cost([0.2, 0.4, 0.3], [16.0, 20.0, 8.0], [0.01, 0.02, 0.02], 100, 2e9, 10**6),
        cost([0.4, 0.8, 0.9], [8.0, 40.0, 16.0], [0.02, 0.04, 0.03], 250, 3e9, 10**7),
    ],
    'training step': [
        cost([1.0], [8.0], [], 200, 6e9, 10**6),
        cost([3.0], [4.0], [], 500, 9e9, 10**7),
    ],
}


def test_a_row_for_each_mode_and_config() -> None:
    table = cost_table(['a', 'b'], MEASURED)
    assert [column.head for column in table.columns] == [
        'config',
        'mode',
        'M parameters',
        'GMAC an image',
        'ms a pass',
        'MiB',
        'images/s',
        'ms, one image',
    ]
    test_b = 'b|test, L_a = 4|10.00 (×10.000)|3.000 (×1.500)|'
    # Each ratio is of one round: 2, 2 and 3; half as many images, then twice, twice.
    test_b += '800.0 (×2.000, 2.00–3.00)|250 (×2.500)|16.0 (×2.000, 0.50–2.00)|'
    train_b = 'b|training step|10.00 (×10.000)|9.000 (×1.500)|3000.0 (×3.000)|'
    assert ['|'.join(row) for row in table.rows] == [
        'a|test, L_a = 4|1.00|2.000|300.0|100|16.0|20.00',
        test_b + '30.00 (×2.000, 1.50–2.00)',
        'a|training step|1.00|6.000|1000.0|200|8.0|–',
        train_b + '500 (×2.500)|4.0 (×0.500)|–',
    ]


def test_a_column_for_each_config_as_in_table_3() -> None:
    table = cost_table(['a', 'b'], MEASURED, 'models')
    assert [column.head for column in table.columns] == ['', 'a', 'b']
    assert [list(row) for row in table.rows] == [
        ['test, L_a = 4: M parameters', '1.00', '10.00 (×10.000)'],
        ['test, L_a = 4: GMAC an image', '2.000', '3.000 (×1.500)'],
        ['test, L_a = 4: ms a pass', '300.0', '800.0 (×2.000, 2.00–3.00)'],
        ['test, L_a = 4: MiB', '100', '250 (×2.500)'],
        ['test, L_a = 4: images/s', '16.0', '16.0 (×2.000, 0.50–2.00)'],
        ['test, L_a = 4: ms, one image', '20.00', '30.00 (×2.000, 1.50–2.00)'],
        ['training step: M parameters', '1.00', '10.00 (×10.000)'],
        ['training step: GMAC an image', '6.000', '9.000 (×1.500)'],
        ['training step: ms a pass', '1000.0', '3000.0 (×3.000)'],
        ['training step: MiB', '200', '500 (×2.500)'],
        ['training step: images/s', '8.0', '4.0 (×0.500)'],
    ]
    with pytest.raises(ValueError, match=r"layout must be one of .* got 'table'"):
        cost_table(['a', 'b'], MEASURED, 'table')


def test_passes_are_timed_in_turn_by_the_clock_and_the_processor() -> None:
    order: list[str] = []

    def work() -> None:
        order.append('work')
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass

    def sleep() -> None:
        order.append('sleep')
        time.sleep(0.02)

    works, sleeps = timed([work, sleep], 2, 1)
    # One pass to warm up before each that counts.
    assert order == ['work', 'work', 'sleep', 'sleep'] * 2
    assert min(works.wall) >= 0.019 and min(sleeps.wall) >= 0.019
    assert min(works.used) >= 0.019 and max(sleeps.used) < 0.01
    assert [len(seconds) for seconds in (*works, *sleeps)] == [2] * 4


def test_what_is_short_is_repeated_within_a_measurement() -> None:
    calls = []
    (found,) = timed([lambda: calls.append(1)], 1, 1)
    assert len(calls) > 1000 and 0 < found.wall[0] < 1e-4 and 0 < found.used[0] < 1e-4


def test_peak_memory_is_what_a_step_holds_at_once() -> None:
    def step() -> None:
        for _ in range(3):
            first, second = torch.empty(1000), torch.empty(500)
            del first, second

    assert peak_bytes(step) == 4 * 1500


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
    options = '--samples 0 --size 64 64 --batch 1 --rounds 1 --profile 3'
    command = [repo / 'tools/benchmark.py', config, *options.split()]
    printed = run(sys.executable, *command, cwd=tmp_path)
    assert 'retinanet_r50_aib_qt, training step:' in printed
    assert 'convolution' in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ('script', 'options', 'row'),
    [
        ('quantizer', '--rounds 1', r'Q = 4096 +64×1×16×16 +[\d.]+ \(×'),
        ('models', 'chunks --rounds 1', r'vgg16_aib_qt_cifar10 +test, L_a = 4'),
        ('start_up', '--rounds 1', r'\| python -m aib_mm --help \| [\d.]+ \| 0\.'),
        (
            'throughput',
            f'{AIB} --size 32 32 --batch 4 --processes 2 --steps 2',
            r'\| vgg16-narrow_aib_digitscenes \| 2 \| 8 \| [\d.]+ \| [\d.]+ \|',
        ),
    ],
)
def test_developers_scripts_print_their_tables(
    tmp_path: Path, repo: Path, script: str, options: str, row: str
) -> None:
    command = [repo / f'benchmarks/{script}.py', *options.split()]
    assert re.search(row, run(sys.executable, *command, cwd=tmp_path))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['absent.py'], r'config absent\.py does not exist'),
        (
            [str(VANILLA), '--out', 'table.csv'],
            r'writes .md and .json files, got table',
        ),
        (
            [str(VANILLA), '--count-only', '--layout', 'models'],
            r'--layout models is not for --count-only',
        ),
    ],
)
def test_users_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert benchmark.main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count('\n') == 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--size', '0', '32'], r'--size: must be at least 1, got 0'),
        (['--samples', '-1'], r'--samples: must be at least 0, got -1'),
        (['--rounds', '0'], r'--rounds: must be at least 1, got 0'),
        (['--batch', '0'], r'--batch: must be at least 1, got 0'),
        (['--threads', '0'], r'--threads: must be at least 1, got 0'),
    ],
)
def test_values_out_of_range_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        benchmark.main([str(VANILLA), *arguments])
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)
