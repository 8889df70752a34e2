"""``python -m aib_mm add``: what it writes, that it runs, and what it refuses."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from runner_logs import own_loggers
from torch import Tensor, nn

from aib_mm.__main__ import main
from aib_mm.diagnosis import add as engine
from aib_mm.hosts import REQUIREMENTS, VersionCheck

pytest.importorskip('mmpretrain')

CLASSIFIER = """
default_scope = 'mmpretrain'
custom_hooks = [dict(type='EMAHook')]
model = dict(type='ImageClassifier', backbone=dict({backbone}), {neck}head=dict({head}))
"""
RESNET = "type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=2"
VIT = (
    "type='VisionTransformer', img_size=32, patch_size=8, arch=dict(embed_dims=16, "
    'num_layers=1, num_heads=2, feedforward_channels=16)'
)
CONVNEXT = "type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 16])"
POOLED = "neck=dict(type='GlobalAveragePooling'), "
RISE = dict(price_begin=0.25, price_end=0.5)  # shares of the training
LINEAR = "type='LinearClsHead', num_classes=3, in_channels=16"

WRITTEN = '''\
"""The base with attention behind its backbone."""

_base_ = 'base.py'

custom_imports = dict(imports=['aib_mm'])

model = dict(
    neck=dict(
        _delete_=True,  # it is held by the attention now
        type='AIBAttention',
        in_channels=16,
        std_kernel_size=3,
        post_neck={{_base_.model.neck}},
    ),
)
'''


@MODELS.register_module()
class Widening(BaseModule):
    """A neck from 16 to 24 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 24, 1)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.conv(feats[-1]),)


@MODELS.register_module()
class MoreInTraining(BaseModule):
    """A backbone with an auxiliary level in training, as PIDNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.conv(x),) * (1 + self.training)


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    with own_loggers():
        yield


def base(
    folder: Path, backbone: str = RESNET, neck: str = POOLED, head: str = LINEAR
) -> Path:
    """A classifier of mmpretrain, three classes, 16 channels."""
    path = folder / 'base.py'
    path.write_text(CLASSIFIER.format(backbone=backbone, neck=neck, head=head))
    return path


def added(config: Path | str, folder: Path, *options: str) -> tuple[str, Config]:
    """What ``add`` writes beside ``config``, and the config that this is."""
    out = folder / 'mine.py'
    assert main(['add', str(config), '--out', str(out), *options]) == 0
    ruff = [sys.executable, '-m', 'ruff', 'format', '--isolated', '--check']
    style = ['--config', "format.quote-style='single'", '-q', str(out)]
    assert subprocess.run([*ruff, *style], check=False).returncode == 0, out.read_text()
    return out.read_text(), Config.fromfile(out)


def refused(config: Path | str, folder: Path, *options: str) -> int:
    """Exit code of an ``add`` that writes nothing."""
    before = sorted(folder.iterdir())
    code = main(['add', str(config), '--out', str(folder / 'mine.py'), *options])
    assert sorted(folder.iterdir()) == before
    return code


def test_it_writes_what_a_person_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, cfg = added(base(tmp_path), tmp_path)
    assert text == WRITTEN
    assert cfg.model.neck.post_neck.type == 'GlobalAveragePooling'
    out = capsys.readouterr().out
    assert 'mine.py: AIBAttention behind the backbone, 16 channels' in out
    assert 'one training step and one prediction on made images of 64x64' in out


def test_the_base_is_found_from_another_folder(tmp_path: Path) -> None:
    base(tmp_path)
    text, cfg = added(tmp_path / 'base.py', tmp_path.joinpath('sub', 'folder'))
    assert "_base_ = '../../base.py'" in text
    assert cfg.model.neck.type == 'AIBAttention'


@pytest.mark.parametrize(
    ('backbone', 'head', 'switch'),
    [
        (VIT, "type='VisionTransformerClsHead'", "out_type='featmap'"),
        (CONVNEXT, "type='LinearClsHead'", 'gap_before_final_norm=False'),
    ],
)
def test_a_switch_makes_maps(
    backbone: str, head: str, switch: str, tmp_path: Path
) -> None:
    head += ', num_classes=3, in_channels=16'
    text, cfg = added(base(tmp_path, backbone, 'neck=None, ', head), tmp_path)
    assert f'        {switch},  # maps' in text
    assert '_delete_=True,  # the base says neck=None' in text
    assert cfg.model.neck.in_channels == 16
    assert cfg.model.neck.post_neck == dict(type='GlobalAveragePooling')
    assert cfg.model.head.num_classes == 3


def test_necks_in_a_list_are_held_on_both_sides(tmp_path: Path) -> None:
    """Behind the last neck that gives maps, before the one that pools."""
    necks = "neck=[dict(type='Widening'), dict(type='GlobalAveragePooling')], "
    path = base(tmp_path, RESNET, necks, LINEAR.replace('16', '24'))
    text, cfg = added(path, tmp_path)
    assert 'behind its neck' in text
    assert [each.type for each in cfg.model.neck.pre_neck] == ['Widening']
    assert [each.type for each in cfg.model.neck.post_neck] == ['GlobalAveragePooling']


def test_imports_of_the_base_stay(tmp_path: Path) -> None:
    path = base(tmp_path)
    path.write_text(path.read_text() + "custom_imports = dict(imports='json')\n")
    text, cfg = added(path, tmp_path)
    assert "imports=['json', 'aib_mm'],  # the base's too" in text
    path = tmp_path / 'twice.py'
    path.write_text("_base_ = 'mine.py'\nmodel = dict(neck=dict(_delete_=True, type='")
    path.write_text(f"{path.read_text()}GlobalAveragePooling'))\n")
    (tmp_path / 'again').mkdir()
    text, cfg = added(path, tmp_path / 'again')
    assert 'custom_imports' not in text
    assert cfg.custom_imports.imports == ['json', 'aib_mm']


@pytest.mark.parametrize(
    ('options', 'neck', 'hook'),
    [
        ((), {}, None),
        (('--modulation', 'scale'), dict(modulation='scale'), None),
        (
            ('--quantizer', '5'),
            dict(quantizer=dict(type='VQAnchorQuantizer', num_anchors=5)),
            dict(type='AIBLossHook'),
        ),
        (
            ('--price', '.1'),
            dict(modulation='replace'),
            dict(type='AIBLossHook', attention_price=0.1, **RISE),
        ),
        (
            ('--price', '.1', '--quantizer', '5'),
            dict(
                modulation='replace',
                quantizer=dict(
                    type='VQAnchorQuantizer', num_anchors=5, value_range=(0.0, 0.999)
                ),
            ),
            dict(type='AIBLossHook', attention_price=0.1, **RISE),
        ),
        (
            ('--price', '.1', '--modulation', 'bias'),
            dict(modulation='bias', prior_std=0.2),
            dict(type='AIBLossHook', attention_price=0.1, **RISE),
        ),
    ],
)
def test_the_neck_is_what_is_asked_for(
    options: tuple[str, ...], neck: dict, hook: dict | None, tmp_path: Path
) -> None:
    _, cfg = added(base(tmp_path), tmp_path, *options)
    given = {
        key: value
        for key, value in cfg.model.neck.items()
        if key in ('modulation', 'quantizer', 'prior_std')
    }
    assert given == neck
    assert cfg.get('default_hooks', {}).get('aib_loss') == hook
    assert cfg.custom_hooks == [dict(type='EMAHook')]


@pytest.mark.parametrize('options', [(), ('--price', '2', '--modulation', 'concat')])
def test_our_head_for_a_classifier(options: tuple[str, ...], tmp_path: Path) -> None:
    head = LINEAR + ", loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)"
    text, cfg = added(base(tmp_path, head=head), tmp_path, '--bottleneck', *options)
    assert cfg.model.head.type == 'AIBClsHead'
    assert cfg.model.head.num_classes == 3
    assert cfg.model.head.loss.label_smooth_val == 0.1
    assert cfg.model.head.encoder.in_features == (32 if options else 16)
    assert cfg.model.head.get('aib_loss', {}).get('attention_price', 0) == (
        2 if options else 0
    )
    assert 'post_neck' not in cfg.model.neck
    assert "_delete_=True,  # our head's encoder pools" in text
    assert 'default_hooks' not in text


def test_our_head_in_the_place_of_the_backbones_own(tmp_path: Path) -> None:
    """VGG classifies by itself."""
    backbone = "type='VGG', depth=11, num_classes=3"
    path = base(tmp_path, backbone, neck='', head="type='ClsHead'")
    text, cfg = added(path, tmp_path, '--bottleneck')
    assert 'num_classes=-1,  # maps: our head classifies' in text
    assert cfg.model.head.num_classes == 3
    assert cfg.model.head.encoder.in_features == cfg.model.neck.in_channels == 512


@pytest.mark.parametrize(
    ('backbone', 'neck', 'head', 'options', 'words'),
    [
        (
            "type='VGG', depth=11, num_classes=3",
            '',
            "type='ClsHead'",
            (),
            'VGG computes the class scores in the backbone',
        ),
        (
            "type='MlpMixer', arch=dict(embed_dims=16, num_layers=1, tokens_mlp_dims=8,"
            'channels_mlp_dims=8), img_size=32, patch_size=8',
            "neck=dict(type='GlobalAveragePooling', dim=1), ",
            LINEAR,
            (),
            'MlpMixer gives no maps (B, C, H, W) to attend to, but [(2, 16, 16)]',
        ),
        (
            VIT.replace('Vision', 'DistilledVision'),
            'neck=None, ',
            LINEAR.replace('LinearCls', 'DeiTCls'),
            (),
            'DeiTClsHead reads two tokens, and maps have none',
        ),
        (
            "type='MoreInTraining'",
            POOLED,
            LINEAR,
            (),
            'gives 2 levels in training and 1 in a prediction',
        ),
        (RESNET, POOLED, LINEAR, ('--modulation', 'concat'), 'doubles the channels'),
        (
            RESNET,
            POOLED,
            LINEAR.replace('16', '8'),
            (),
            'a step of it fails as it is, without attention: model.head.fc',
        ),
        (
            RESNET,
            POOLED,
            LINEAR.replace('Linear', 'MultiLabelLinear'),
            ('--bottleneck',),
            'not for MultiLabelLinearClsHead; leave --bottleneck out',
        ),
        (
            RESNET,
            "neck=[dict(type='GlobalAveragePooling'), dict(type='LinearNeck', "
            'in_channels=16, out_channels=16)], ',
            LINEAR,
            ('--bottleneck',),
            "would take the place of ['LinearNeck'] too: leave --bottleneck out",
        ),
        (
            RESNET,
            "neck=dict(type='AIBAttention', in_channels=16, post_neck=dict(type="
            "'GlobalAveragePooling')), ",
            LINEAR,
            (),
            'model.neck attends already',
        ),
        (RESNET.replace('Net_', 'Not_'), POOLED, LINEAR, (), "did you mean 'ResNet"),
    ],
)
def test_what_cannot_be_done_is_refused(
    backbone: str,
    neck: str,
    head: str,
    options: tuple[str, ...],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refused(base(tmp_path, backbone, neck, head), tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith('add: error: ') and error.count('\n') == 1


def test_files_that_cannot_be_read_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = base(tmp_path)
    assert refused(tmp_path / 'bse.py', tmp_path) == 2
    assert "does not exist; did you mean 'base.py'?" in capsys.readouterr().err
    assert refused('mmpretrain::resnet/resnet1.py', tmp_path) == 2
    assert 'does not resolve' in capsys.readouterr().err
    wrong = {
        'base.py': 'is there already',
        'a.yml': 'must end in .py',
        'base.py/a.py': 'cannot be written: ',
    }
    for name, words in wrong.items():
        assert main(['add', str(path), '--out', str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err


def test_a_pure_python_config_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'base.py'
    path.write_text('from mmpretrain.models import ImageClassifier\nmodel = dict()\n')
    assert refused(path, tmp_path) == 2
    assert 'one with read_base cannot inherit' in capsys.readouterr().err


def test_a_model_of_no_host_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'base.py'
    path.write_text("default_scope = 'mmpretrain'\nmodel = dict(type='BaseDataPreproc")
    path.write_text(f"{path.read_text()}essor')\n")
    assert refused(path, tmp_path) == 2
    assert 'is no classifier, detector or segmentor' in capsys.readouterr().err


def test_a_model_that_learns_from_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mmpretrain.structures import DataSample

    from aib_mm.classification import random_batch

    def made(count: int, size: tuple[int, int], *_: object, **__: object) -> dict:
        samples = [DataSample() for _ in range(count)]
        return dict(inputs=[torch.zeros(3, *size)] * count, data_samples=samples)

    monkeypatch.setattr(random_batch, 'random_batch', made)
    assert refused(base(tmp_path), tmp_path) == 2
    error = capsys.readouterr().err
    assert 'no step can be tried: made images lack what it learns from' in error
    assert "by hand: neck=dict(type='AIBAttention'" in error


def test_a_step_that_fails_with_the_attention_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError('out of luck')

    monkeypatch.setattr(engine, 'run_step', fail)
    assert refused(base(tmp_path), tmp_path) == 2
    found = 'with the attention a step fails: RuntimeError: out of luck'
    assert found in capsys.readouterr().err


def test_idle_parameters_of_the_attention_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = 'neck.branches.0.mean_conv.weight'
    step = engine.Step(64, [name], [name])
    monkeypatch.setattr(engine, 'run_step', lambda *_: step)
    assert refused(base(tmp_path), tmp_path) == 2
    found = f'leaves 1 parameters without a gradient, {name} among them'
    assert found in capsys.readouterr().err


def test_onedl_needs_the_path_of_mmseg(monkeypatch: pytest.MonkeyPatch) -> None:
    requirement = next(one for one in REQUIREMENTS if one.module == 'mmseg')
    for name in requirement.distributions:
        check = VersionCheck(requirement, name, '1')
        monkeypatch.setattr(engine.hosts, 'check_versions', lambda c=check: [c])
        written = engine._base('mmseg::fcn/a.py', Path('mine.py')).final
        onedl = name.startswith('onedl')
        assert ("__import__('mmseg').__path__[0]" in str(written)) == onedl
