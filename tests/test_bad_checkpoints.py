"""Bad checkpoints, through every command that reads one: nothing in them is run."""

import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from cifar_files import write_cifar10
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from runner_logs import own_loggers

from aib_mm.__main__ import main as aib_mm_main
from aib_mm.apis import AttentionInferencer
from aib_mm.cli import (
    cross_domain,
    interpretability,
    localization,
    train,
    visualize_attention,
)
from aib_mm.cli import test as test_program
from aib_mm.training.checkpoint import CheckpointError

CONFIG = Path(__file__).with_name('noisy_classifier.py')

pytest.importorskip('mmpretrain')


class Touches:
    """Pickles as a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def _cut(path: Path) -> None:
    torch.save(dict(state_dict={'weight': torch.ones(1000)}), path)
    path.write_bytes(path.read_bytes()[:2000])


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('readme.txt', 'not a checkpoint')


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    'cut short': (_cut, 'cannot be read'),
    'empty': (lambda path: path.write_bytes(b''), 'cannot be read'),
    'text': (lambda path: path.write_text('weights\n'), 'cannot be read'),
    'zip': (_zip, 'cannot be read'),
    'tensor': (lambda path: torch.save(torch.ones(2), path), 'holds a Tensor'),
    'no weights': (
        lambda path: torch.save(dict(state_dict=[1]), path),
        'has a list as state_dict',
    ),
    'code': (
        lambda path: torch.save(dict(meta=Touches(path.with_name('mark'))), path),
        'system, which the safe loader does not allow',
    ),
}
COMMANDS = {
    'test': (test_program.main, ['CONFIG', 'FILE']),
    'resume': (train.main, ['CONFIG', '--resume', 'FILE']),
    'load_from': (train.main, ['CONFIG', '--cfg-options', 'load_from=FILE']),
    'visualize': (
        visualize_attention.main,
        ['CONFIG', 'FILE', '.', '--out', 'pictures'],
    ),
    'interpretability': (
        interpretability.main,
        ['--model', 'CONFIG', 'FILE', '--out', 'measured'],
    ),
    'localization': (
        localization.main,
        ['--model', 'CONFIG', 'FILE', '--out', 'measured'],
    ),
    'cross_domain': (
        cross_domain.main,
        ['CONFIG', 'FILE', '--domains', 'domains.py'],
    ),
    'compare': (aib_mm_main, ['compare', 'CONFIG', 'FILE']),
}


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    with own_loggers():
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with data and a file of domains."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', raising=False)
    write_cifar10(tmp_path / 'data', train_per_batch=2, test=4)
    (tmp_path / 'domains.py').write_text("domains = {'other': dict()}\n")
    return tmp_path


@pytest.mark.parametrize('kind', BAD)
@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_names_file_size_and_cause(
    command: str, kind: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place / 'bad.pth'
    make, cause = BAD[kind]
    make(path)
    main, arguments = COMMANDS[command]
    given = [
        one.replace('CONFIG', str(CONFIG)).replace('FILE', str(path))
        for one in arguments
    ]
    assert main(given) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert f'error: checkpoint {path} ' in said
    assert cause in said
    assert f'{path.stat().st_size:,} bytes' in said
    assert not (place / 'mark').exists()


@pytest.mark.parametrize('kind', BAD)
def test_the_inferencer_raises_the_same(kind: str, place: Path) -> None:
    from aib_mm.apis import AttentionInferencer

    make, cause = BAD[kind]
    make(place / 'bad.pth')
    with pytest.raises(CheckpointError, match=cause):
        AttentionInferencer(str(CONFIG), place / 'bad.pth')
    assert not (place / 'mark').exists()


# --- checkpoints of another model -------------------------------------------------


def weights() -> dict[str, torch.Tensor]:
    cfg = Config.fromfile(CONFIG)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg.model).state_dict()


def save(place: Path, state_dict: dict[str, torch.Tensor]) -> str:
    path = place / 'other.pth'
    content = dict(state_dict=state_dict, meta={}, message_hub={}, optimizer={})
    torch.save(content, path)
    return str(path)


def test_a_test_of_another_models_weights_stops(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save(place, {'layer.weight': torch.ones(3)})
    for more in ([], ['--allow-missing']):
        assert test_program.main([str(CONFIG), other, *more]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert f'checkpoint {other} is not of this ImageClassifier' in said
        assert 'backbone.conv1.weight' in said
        assert 'python -m aib_mm compare' in said


def test_weights_of_a_training_that_diverged_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state_dict = weights()
    state_dict['head.decoder.layers.2.bias'].fill_(math.nan)
    broken = save(place, state_dict)
    assert test_program.main([str(CONFIG), broken]) == 2
    message = r'has NaN in 1 of its weights \(head\..*bias\): its training diverged'
    assert re.search(message, capsys.readouterr().err)
    with pytest.raises(CheckpointError, match=message):
        AttentionInferencer(CONFIG, broken)
    aside = save(place, {**weights(), 'aux.weight': torch.full((2,), math.nan)})
    assert test_program.main([str(CONFIG), aside]) == 0  # it is not of the model


def test_weights_of_another_attention_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {'neck.post_neck.weight': torch.ones(5), 'aux.weight': torch.ones(3)}
    assert test_program.main([str(CONFIG), save(place, {**weights(), **held})]) == 0
    other = save(place, {**weights(), 'neck.quantizer.anchors': torch.ones(5)})
    assert test_program.main([str(CONFIG), other]) == 2
    message = r'is of another attention .*, which lacks neck\.quantizer\.anchors;'
    assert re.search(message, capsys.readouterr().err)
    with pytest.raises(CheckpointError, match=message):
        AttentionInferencer(CONFIG, other)
    assert test_program.main([str(CONFIG), other, '--allow-missing']) == 0


@pytest.mark.usefixtures('mmpretrain_scope')  # whatever the test before left
@pytest.mark.parametrize('how', ['missing', 'shape'])
def test_a_test_with_some_weights_missing_must_be_asked_for(
    how: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state_dict = weights()
    key = 'head.decoder.layers.2.bias'
    bias = state_dict.pop(key)
    if how == 'shape':
        state_dict[key] = torch.cat([bias, bias])
    other = save(place, state_dict)
    assert test_program.main([str(CONFIG), other]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f'1 of its {len(weights())} weights' in said
    assert (f'{key} [20] for [10]' if how == 'shape' else f'({key})') in said
    assert '--allow-missing' in said
    assert test_program.main([str(CONFIG), other, '--allow-missing']) == 0


@pytest.mark.usefixtures('mmpretrain_scope')  # whatever the test before left
def test_a_training_may_start_from_some_weights_and_not_from_none(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = [str(CONFIG), '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1']
    other = save(place, {'layer.weight': torch.ones(3)})
    assert train.main([*start, f'load_from={other}']) == 2
    assert 'is not of this ImageClassifier' in capsys.readouterr().err
    backbone = {k: v for k, v in weights().items() if k.startswith('backbone')}
    assert train.main([*start, f'load_from={save(place, backbone)}']) == 0


def test_a_training_is_resumed_from_its_own_weights_only(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = {k: v for k, v in weights().items() if k.startswith('backbone')}
    other = save(place, backbone)
    assert train.main([str(CONFIG), '--resume', other]) == 2
    assert 'weights are missing or of another shape' in capsys.readouterr().err
