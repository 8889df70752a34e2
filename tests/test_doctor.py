"""``python -m aib_mm doctor``: its report, its remedies and its exit code."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from runner_logs import own_loggers

from aib_mm import hosts
from aib_mm.__main__ import main
from aib_mm.diagnosis import doctor
from aib_mm.diagnosis.check import check_config

TINY = """
default_scope = 'mmengine'
model = dict(type='AIBAttention', in_channels=4)
"""
CLASSIFIER = "default_scope = 'mmpretrain'\nmodel = dict(type='ImageClassifier', {})"
RESNET = "type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=2"
VIT = (
    "type='VisionTransformer', img_size=32, patch_size=8, arch=dict(embed_dims=16, "
    'num_layers=1, num_heads=2, feedforward_channels=16)'
)
CONVNEXT = "type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 16])"
ATTENDED = """backbone=dict({backbone}),
    neck=dict({neck}),
    head=dict({head})"""
HEAD = """type='AIBClsHead', num_classes=3, latent_dim=4,
        encoder=dict(type='GaussianEncoder', in_features=16)"""
NECK = "type='AIBAttention', in_channels={}"


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    with own_loggers():
        yield


def write(folder: Path, text: str, name: str = 'config.py') -> Path:
    path = folder / name
    path.write_text(text)
    return path


def attended(
    folder: Path,
    backbone: str = RESNET,
    neck: str = NECK.format(16),
    head: str = HEAD,
) -> Path:
    """A classifier of 16 channels behind its backbone, with the attention's parts."""
    parts = ATTENDED.format(backbone=backbone, neck=neck, head=head)
    return write(folder, CLASSIFIER.format(parts))


def test_all_is_well_in_this_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = attended(tmp_path)
    assert main(['doctor', str(config)]) == 0
    out = capsys.readouterr().out
    assert "[ok]     mmcv's ops load and run" in out
    assert 'host mmpretrain: registered by aib_mm.classification' in out
    assert re.search(
        r'ImageClassifier builds, [\d,]+ parameters; one training step and one '
        r'prediction on images of 64x64\n',
        out,
    )
    assert out.rstrip().endswith('all is well')


def test_a_hosts_config_resolves_and_builds(tmp_path: Path) -> None:
    base = "_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'"
    result = check_config(write(tmp_path, base))
    assert result.error is None, result.problem
    assert type(result.module).__name__ == 'ImageClassifier'
    # ResNet-18 with CIFAR's 3x3 stem: 11,168,832 weights and a 512 -> 10 classifier.
    count = sum(parameter.numel() for parameter in result.module.parameters())
    assert count == 11_168_832 + 512 * 10 + 10


@pytest.mark.parametrize(
    ('text', 'problem', 'remedy'),
    [
        ('model = dict(', 'SyntaxError', 'py_compile'),
        ("_base_ = './nope.py'", 'nope.py', 'check the path and every _base_'),
        ("_base_ = 'mmnope::a.py'", 'external package', "'mmpretrain::FOLDER"),
        ("_base_ = 'mmyolo::x/a.py'", 'mmyolo is not installed', 'install the package'),
        ('lr = 1 / 0', 'ZeroDivisionError', '--traceback'),
        (
            "custom_imports = dict(imports=['aib_nope'])",
            "No module named 'aib_nope'",
            'repair custom_imports',
        ),
        ('lr = 1', 'no key model', 'add a model'),
        (CLASSIFIER.format('neck=1'), "ImageClassifier needs 'backbone'", 'add it'),
        (
            CLASSIFIER.format("backbone=dict(type='ResNot')"),
            "model.backbone.type: 'ResNot' is not in the mmpretrain::model registry",
            "did you mean 'ResNet'?",
        ),
        (
            CLASSIFIER.format('backbone=dict(depth=18)'),
            "model.backbone: {'depth': 18} is where a part belongs",
            "a key 'type'",
        ),
        (
            "default_scope = 'mmnope'\nmodel = dict(type='X')",
            "'X' is not in the",
            "default_scope is 'mmnope', which is not installed",
        ),
        (
            TINY.replace('4', '-4'),
            'model.in_channels: AIBAttention(in_channels=-4) does not build: '
            'ValueError: in_channels must be an integer >= 1, got -4',
            '',
        ),
    ],
)
def test_each_failure_has_its_remedy(
    tmp_path: Path, text: str, problem: str, remedy: str
) -> None:
    result = check_config(write(tmp_path, text))
    assert result.error is not None
    assert problem in result.problem
    assert remedy in result.remedy
    assert '\n' not in result.problem + result.remedy


def test_bases_that_define_the_same_key(tmp_path: Path) -> None:
    write(tmp_path, 'x = 1', 'a.py')
    write(tmp_path, 'x = 2', 'b.py')
    result = check_config(write(tmp_path, "_base_ = ['a.py', 'b.py']"))
    assert 'keep it in one of them' in result.remedy


def test_mmseg_under_the_name_that_onedl_does_not_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error = ModuleNotFoundError('mmsegmentation is not installed')

    def fail(path: Path, **_: object) -> None:
        raise error

    monkeypatch.setattr(Config, 'fromfile', fail)
    result = check_config(tmp_path / 'config.py')
    assert result.error is error
    assert 'inside mmseg/.mim/configs' in result.remedy


def test_a_file_that_is_no_config(tmp_path: Path) -> None:
    result = check_config(write(tmp_path, '', 'notes.txt'))
    assert "check the name's ending" in result.remedy


@pytest.mark.parametrize(
    ('changes', 'problem', 'remedy'),
    [
        (
            dict(neck=NECK.format(8)),
            r'neck: .*in_channels=\[8\]\) got features with channels \[16\]',
            'set in_channels to those of the backbone',
        ),
        (
            dict(head=HEAD.replace('16', '8')),
            r'head\.encoder\.fc, Linear\(in_features=8, .* gets \(2, 16\)',
            'remedy: make 8 there 16, or what comes before it 8',
        ),
        (
            dict(backbone=RESNET + ', out_indices=(2, 3)'),
            r'neck: .* features with channels \[8, 16\]',
            'set in_channels to those of the backbone',
        ),
        (
            dict(backbone=VIT),
            r'neck: .* got features of \[\(2, 16\)\]',
            "out_type='featmap'",
        ),
        (
            dict(backbone=VIT + ", out_type='raw'"),
            r'neck: .* got features of \[\(2, 17, 16\)\]',
            "out_type='featmap'",
        ),
        (
            dict(backbone=CONVNEXT),
            r'neck: .* got features of \[\(2, 16\)\]',
            'gap_before_final_norm=False',
        ),
        (
            dict(head="type='LinearClsHead', num_classes=3, in_channels=16"),
            r'head\.fc, Linear\(in_features=16, .* gets \(2, 16, 28, 28\)',
            "pool before it: post_neck=dict(type='GlobalAveragePooling')",
        ),
        (
            dict(
                neck="type='mmdet.FPN', in_channels=[16], out_channels=16, num_outs=1",
                head="type='LinearClsHead', num_classes=3, in_channels=16",
            ),
            r'head\.fc, ',
            "pool before it: neck=dict(type='GlobalAveragePooling')",
        ),
    ],
)
def test_a_model_that_builds_and_does_not_run(
    changes: dict,
    problem: str,
    remedy: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(['doctor', str(attended(tmp_path, **changes))]) == 1
    out = capsys.readouterr().out
    assert 'ImageClassifier builds, ' in out
    assert re.search(f'; but a step on made images fails: model.{problem}', out), out
    assert remedy in out
    assert out.endswith('1 failed\n')


@pytest.mark.parametrize(
    'backbone',
    [
        VIT + ", out_type='featmap'",
        CONVNEXT + ', gap_before_final_norm=False',
        RESNET + ', in_channels=4',
        RESNET + ", init_cfg=dict(type='Pretrained', checkpoint='gone.pth')",
    ],
)
def test_the_same_models_set_right_run(backbone: str, tmp_path: Path) -> None:
    assert main(['doctor', str(attended(tmp_path, backbone))]) == 0


@pytest.mark.parametrize('imports', ['', "['aib_mm']", "'aib_mm.attention'"])
def test_parts_that_other_programs_would_not_find_are_noted(
    imports: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = attended(tmp_path)
    if imports:
        path.write_text(f'custom_imports = dict(imports={imports})\n{path.read_text()}')
    assert main(['doctor', str(path)]) == 0
    noted = '[note]   ' + f'{path} does not import aib_mm' in capsys.readouterr().out
    assert noted == (not imports)


def test_own_parameters_without_a_gradient_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head sees the last level alone, so that the first one's branch is idle."""
    neck = NECK.format([8, 16]) + ', shared=False'
    path = attended(tmp_path, RESNET + ', out_indices=(2, 3)', neck)
    assert main(['doctor', str(path)]) == 1
    named = 'no gradient: 4 parameters, neck.branches.0.mean_conv.weight, '
    assert f'[failed] {named}' in capsys.readouterr().out


def test_a_hosts_parameters_without_a_gradient_are_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = (
        f"backbone=dict({RESNET}, out_indices=(1,)), neck=dict(type='GlobalAverage"
        "Pooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=4)"
    )
    assert main(['doctor', str(write(tmp_path, CLASSIFIER.format(parts)))]) == 0
    named = 'no gradient: 30 parameters, backbone.layer3.0.conv1.weight, '
    assert f'[note]   {named}' in capsys.readouterr().out


def test_a_model_that_is_not_tried_is_not_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['doctor', str(write(tmp_path, TINY))]) == 0
    out = capsys.readouterr().out
    assert '[open]   ' in out and 'AIBAttention builds' in out
    assert 'no step was tried: AIBAttention is no BaseClassifier' in out
    assert out.endswith('nothing failed, not all was tried\n')


def test_a_model_that_learns_from_something_else_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    from mmpretrain.structures import DataSample

    from aib_mm.classification import random_batch

    def made(count: int, size: tuple[int, int], classes: int) -> dict:
        samples = [DataSample() for _ in range(count)]
        return dict(inputs=[torch.zeros(3, *size)] * count, data_samples=samples)

    monkeypatch.setattr(random_batch, 'random_batch', made)
    assert main(['doctor', str(attended(tmp_path))]) == 0
    out = capsys.readouterr().out
    assert 'no step was tried: made images lack what it learns from: ' in out
    assert 'all is well' not in out


def test_a_model_that_cannot_load_its_weights_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    from mmpretrain.models.backbones import ResNet_CIFAR

    def fail(self: ResNet_CIFAR) -> None:
        raise OSError('no route to host')

    monkeypatch.setattr(ResNet_CIFAR, 'init_weights', fail)
    assert main(['doctor', str(attended(tmp_path))]) == 1
    assert 'OSError: no route to host' in capsys.readouterr().out


@pytest.mark.parametrize('wrong', [False, True])
@pytest.mark.parametrize(
    ('config', 'channels'),
    [
        ('mmdet/faster_rcnn_r18-narrow_aib_qt_digitscenes.py', 7),
        ('mmseg/upernet_beit-narrow_aib_qt_digitscenes.py', [7, 7, 7, 7]),
    ],
)
def test_other_hosts_models(
    config: str, channels: object, wrong: bool, repo: Path, tmp_path: Path, capsys
) -> None:
    pytest.importorskip(config.partition('/')[0])
    text = f'_base_ = {str(repo / "configs" / config)!r}\n'
    if wrong:
        text += f'model = dict(neck=dict(in_channels={channels}))\n'
    assert main(['doctor', str(write(tmp_path, text))]) == int(wrong)
    out = capsys.readouterr().out
    ran = 'one training step and one prediction on images of 64x64'
    assert ('set in_channels to those of the' if wrong else ran) in out


def test_the_command_shows_no_traceback_and_fails(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, '-m', 'aib_mm', 'doctor', 'absent.py'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert result.returncode == 1
    assert 'absent.py: does not resolve: FileNotFoundError' in result.stdout
    assert 'remedy: check the path' in result.stdout
    assert '1 failed' in result.stdout
    assert 'Traceback' not in result.stdout + result.stderr


def test_the_traceback_is_there_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['doctor', '--traceback', str(tmp_path / 'absent.py')]) == 1
    assert 'Traceback' in capsys.readouterr().err


def test_missing_pkg_resources_fails_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        doctor.inspect, 'getsource', lambda module: 'import pkg_resources'
    )
    monkeypatch.setattr(doctor.importlib.util, 'find_spec', lambda name: None)
    finding = doctor._check_pkg_resources()
    assert finding.state == 'failed'
    assert 'pip install "setuptools<81"' in finding.remedy


def test_an_mmengine_without_pkg_resources_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor.inspect, 'getsource', lambda module: 'import os')
    monkeypatch.setattr(doctor.importlib.util, 'find_spec', lambda name: None)
    assert doctor._check_pkg_resources().state == 'ok'


def test_ops_that_do_not_load_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    finding = doctor._check_ops()
    assert finding.state == 'failed'
    assert "mmcv's ops do not load: ModuleNotFoundError" in finding.text
    assert 'build mmcv from its sdist' in finding.remedy


def test_ops_that_compute_something_else_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    import mmcv.ops

    monkeypatch.setattr(
        mmcv.ops, 'nms', lambda *args, **kwargs: (None, torch.tensor([0, 1, 2]))
    )
    assert 'kept [0, 1, 2], not [0, 2]' in doctor._check_ops().text


def test_no_mmcv_at_all_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, 'is_installed', lambda name: name != 'mmcv')
    assert doctor._check_ops().text == 'mmcv is not installed'


def test_a_broken_host_fails_and_an_absent_one_is_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = {
        'a': hosts.HostState('a', 'aib_mm.a', 'broken', OSError('libfoo.so')),
        'b': hosts.HostState('b', 'aib_mm.b', 'absent'),
    }
    monkeypatch.setattr(hosts, 'register_hosts', lambda: states)
    broken, absent, none = doctor._check_hosts()
    assert (broken.state, absent.state) == ('failed', 'note')
    assert 'OSError: libfoo.so' in broken.text
    assert 'reinstall a' in broken.remedy
    assert (none.state, none.text) == ('failed', 'no host is registered')


def test_versions_outside_the_tested_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    requirement = hosts.REQUIREMENTS[0]
    check = hosts.VersionCheck(requirement, 'torch', '1.0.0')
    monkeypatch.setattr(hosts, 'check_versions', lambda: [check])
    monkeypatch.setattr(hosts, 'mixed_families', lambda: ['mmdet + onedl-mmdetection'])
    monkeypatch.setattr(doctor.sys, 'version_info', (3, 13, 0))
    python, torch, families = doctor._check_versions()
    assert (python.state, torch.state, families.state) == ('note', 'note', 'failed')
    assert 'torch 1.0.0 was not tested (2.11.0 was)' in torch.text
    assert 'not tested' in doctor.version_table([check])


def test_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(['--help'])
    assert stop.value.code == 0
    assert 'doctor' in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(['operate'])
    assert stop.value.code == 2
