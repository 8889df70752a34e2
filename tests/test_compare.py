"""python -m aib_mm compare: what fits, by tiny modules and by a whole detector."""

import copy
import logging
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from aib_mm.__main__ import main
from aib_mm.attention import AIBAttention
from aib_mm.diagnosis.compare import report_text
from aib_mm.encoders import GaussianLayer
from aib_mm.training.checkpoint_keys import KeyReport, Mismatch, compare_keys


class Vanilla(nn.Module):
    """A neck, and a head of one layer."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.neck = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6))
        self.head = nn.Linear(6, classes)


class Attended(nn.Module):
    """The same with attention and a stochastic head, which renames the head's keys."""

    def __init__(self, classes: int = 3, quantizer: dict | None = None) -> None:
        super().__init__()
        self.neck = AIBAttention(4, quantizer=quantizer)
        self.neck.pre_neck = Vanilla().neck
        self.head = GaussianLayer(nn.Linear(6, classes), nn.Linear(6, classes))

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name in ('weight', 'bias'):
            if f'{prefix}head.{name}' in state_dict:
                value = state_dict.pop(f'{prefix}head.{name}')
                state_dict[f'{prefix}head.mean.{name}'] = value
        super()._load_from_state_dict(state_dict, prefix, *args)


QUANTIZER = dict(type='VQAnchorQuantizer', num_anchors=3)
NEW = [
    'neck.quantizer.anchors',
    'neck.branches.0.mean_conv.weight',
    'neck.branches.0.mean_conv.bias',
    'neck.branches.0.std_conv.weight',
    'neck.branches.0.std_conv.bias',
    'head.std.weight',
    'head.std.bias',
]


def test_vanilla_weights_lack_exactly_what_is_declared():
    report = compare_keys(Attended(quantizer=QUANTIZER), Vanilla().state_dict())
    assert sorted(report.new) == sorted(NEW)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    assert report.fits


def test_own_weights_fit_with_nothing_new():
    report = compare_keys(Attended(), Attended().state_dict())
    assert report == KeyReport([], [], [], []) and report.fits


def test_part_of_an_addition_is_not_new_but_missing():
    state = Attended(quantizer=QUANTIZER).state_dict()
    del state['neck.branches.0.std_conv.bias'], state['neck.quantizer.anchors']
    report = compare_keys(Attended(quantizer=QUANTIZER), state)
    assert report.missing == ['neck.branches.0.std_conv.bias']
    assert report.new == ['neck.quantizer.anchors'] and not report.fits


def test_undeclared_differences_are_told_apart():
    state = Vanilla(classes=5).state_dict()
    del state['neck.0.bias']
    state['neck.branches_of_another.weight'] = state['teacher.x'] = torch.zeros(2)
    report = compare_keys(Attended(), state)
    assert report.missing == ['neck.pre_neck.0.bias']
    unexpected = ['neck.branches_of_another.weight', 'teacher.x']
    assert sorted(report.unexpected) == unexpected
    assert report.mismatched == [
        Mismatch('head.mean.weight', (5, 6), (3, 6)),
        Mismatch('head.mean.bias', (5,), (3,)),
    ]
    text = report_text(report)
    assert 'unexpected in the checkpoint: 2\n' in text
    assert '  head.mean.bias: [5] in the checkpoint, [3] in the model' in text
    assert text.endswith('\n\nthe checkpoint does not fit')


def test_neither_model_nor_weights_are_changed():
    model, state = Attended(), Vanilla().state_dict()
    before, keys = copy.deepcopy(model.state_dict()), list(state)
    compare_keys(model, state)
    assert list(state) == keys
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_prefix_of_a_wrapper_is_dropped():
    state = {f'module.{key}': value for key, value in Vanilla().state_dict().items()}
    assert compare_keys(Vanilla(), state).fits


def test_counters_of_batch_norm_are_not_asked_for():
    state = Vanilla().state_dict()  # with its versions, so that none is filled in
    del state['neck.1.num_batches_tracked']
    assert compare_keys(Vanilla(), state).missing == []
    del state['neck.1.running_mean']
    assert compare_keys(Vanilla(), state).missing == ['neck.1.running_mean']


class Versioned(nn.Module):
    """Renames its weight where it was saved before version 2."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.new = nn.Parameter(torch.zeros(1))

    def _load_from_state_dict(self, state_dict, prefix, metadata, *args):
        if metadata.get('version', 1) < 2:
            state_dict[prefix + 'new'] = state_dict.pop(prefix + 'old')
        super()._load_from_state_dict(state_dict, prefix, metadata, *args)


def test_versions_are_those_of_the_checkpoint():
    model = nn.Sequential(Versioned())
    assert compare_keys(model, model.state_dict()).fits
    assert compare_keys(model, OrderedDict({'0.old': torch.zeros(1)})).fits


@pytest.mark.parametrize('classes', [3, 5])
def test_agrees_with_the_loader(classes, caplog):
    state = Vanilla(classes).state_dict()
    state['teacher.x'] = torch.zeros(2)
    report = compare_keys(Attended(), state)
    with caplog.at_level(logging.WARNING):
        logger = logging.getLogger('loader')
        load_state_dict(Attended(), state, logger=logger)
    said = '\n'.join(record.getMessage() for record in caplog.records)
    missing = re.search(r'missing keys in source state_dict: (.*)', said)[1].split(', ')
    assert sorted(missing) == sorted([*report.new, *report.missing])
    unexpected = re.search(r'unexpected key in source state_dict: (.*)', said)[1]
    assert unexpected.split(', ') == report.unexpected
    mismatched = re.findall(r'size mismatch for (\S+):', said)
    assert mismatched == [mismatch.key for mismatch in report.mismatched]


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    """A config of the host's detector and a checkpoint of it."""
    pytest.importorskip('mmdet')
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    folder = tmp_path_factory.mktemp('detector')
    config = folder / 'vanilla.py'
    config.write_text(
        "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n"
        'model = dict(backbone=dict(init_cfg=None))\n'
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config.fromfile(config).model)
    torch.save(dict(meta={}, state_dict=model.state_dict()), folder / 'vanilla.pth')
    return folder


def test_vanilla_detector_lacks_exactly_what_is_declared(detector, repo, capsys):
    config = repo / 'configs/mmdet/faster_rcnn_r50_aib_qt.py'
    assert main(['compare', str(config), str(detector / 'vanilla.pth')]) == 0
    printed = capsys.readouterr().out
    layers = [
        'neck.branches.0.mean_conv',
        'neck.branches.0.std_conv',
        'roi_head.bbox_head.latents.cls.std',
        'roi_head.bbox_head.latents.reg.std',
    ]
    new = [f'{layer}.{name}' for layer in layers for name in ('weight', 'bias')]
    shown = re.findall(r'^  (\S+)$', printed, flags=re.MULTILINE)
    assert sorted(shown) == sorted([*new, 'neck.quantizer.anchors'])
    assert 'FasterRCNN of ' in printed
    for heading in ('missing in the', 'unexpected in the', 'of another shape'):
        assert re.search(rf'^{heading}.*: 0$', printed, flags=re.MULTILINE)
    assert printed.endswith('\nthe checkpoint fits\n')


def compare(folder: Path, change: str, capsys) -> tuple[int, str]:
    """Exit code and report for a changed config against the detector's checkpoint."""
    config = folder / 'other.py'
    config.write_text(f"_base_ = 'vanilla.py'\nmodel = dict({change})\n")
    code = main(['compare', str(config), str(folder / 'vanilla.pth')])
    return code, capsys.readouterr().out


def test_other_classes_differ_in_the_predictor_alone(detector, capsys):
    change = 'roi_head=dict(bbox_head=dict(num_classes=3))'
    code, printed = compare(detector, change, capsys)
    assert code == 0
    apart = printed.partition('of another shape, in the predictor: 4\n')[2]
    key = 'roi_head.bbox_head.fc_cls.bias'
    assert f'  {key}: [81] in the checkpoint, [4] in the model\n' in apart
    assert '\nof another shape: 0\n' in printed
    assert printed.endswith(
        'the checkpoint fits; the predictor differs: normal for other classes\n'
    )


@pytest.mark.parametrize(
    'change',
    [
        'roi_head=dict(bbox_head=dict(num_classes=3, fc_out_channels=512))',
        'roi_head=dict(bbox_head=dict(reg_class_agnostic=True, num_classes=3))',
        'rpn_head=dict(anchor_generator=dict(ratios=[0.5, 1.0]))',
    ],
)
def test_other_detector_does_not_fit(change, detector, capsys):
    code, printed = compare(detector, change, capsys)
    assert code == 1
    assert not re.search(r'^of another shape: 0$', printed, flags=re.MULTILINE)
    assert printed.endswith('the checkpoint does not fit\n')


class Predictor(nn.Module):
    """A hidden layer, and one of ``rows(num_classes)`` outputs for the classes."""

    def __init__(self, num_classes: int, hidden: int = 6, rows=lambda n: n) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.hidden = nn.Linear(4, hidden)
        self.out = nn.Conv2d(hidden, rows(num_classes), 1)


@pytest.mark.parametrize(
    ('rows', 'explained'),
    [
        (lambda n: n, True),
        (lambda n: n + 1, True),  # and a background
        (lambda n: 9 * n, True),  # RetinaNet's anchors
        (lambda n: 3 * (n + 5), True),  # YOLO's
        (lambda n: n + 7, False),
    ],
)
def test_rows_that_the_number_of_classes_explains(rows, explained):
    model = nn.Sequential(Predictor(20, rows=rows))
    state = nn.Sequential(Predictor(80, rows=rows)).state_dict()
    report = compare_keys(model, state)
    assert report.fits == explained
    found = report.predictor if explained else report.mismatched
    assert [one.key for one in found] == ['0.out.weight', '0.out.bias']


def test_a_head_of_another_width_is_no_predictor():
    model = nn.Sequential(Predictor(3))
    report = compare_keys(model, nn.Sequential(Predictor(80, hidden=9)).state_dict())
    assert not report.fits
    assert '0.out.weight' in [one.key for one in report.mismatched]


@pytest.mark.usefixtures('mmpretrain_scope')
def test_a_classifier_of_other_classes():
    pytest.importorskip('mmpretrain')
    from aib_mm import AIBClsHead

    encoder = dict(type='GaussianEncoder', in_features=4)
    heads = [nn.Sequential(AIBClsHead(n, encoder, latent_dim=6)) for n in (10, 3)]
    report = compare_keys(heads[1], heads[0].state_dict())
    assert report.fits and report.mismatched == []
    assert [one.key for one in report.predictor] == [
        '0.decoder.layers.2.weight',
        '0.decoder.layers.2.bias',
    ]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, r'checkpoint .*weights\.pth does not exist'),
        (b'garbage', r'weights\.pth cannot be read, it is damaged'),
        (dict(model=dict(a=torch.zeros(1)), epoch=3), r'which holds: model, epoch; '),
        (dict(state_dict={}), r'which holds: nothing; '),
    ],
)
def test_unusable_checkpoint(tmp_path: Path, capsys, content, message):
    path = tmp_path / 'weights.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    assert main(['compare', 'never read', str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('compare: error: ') and error.count('\n') == 1
    assert re.search(message, error)


def test_unusable_config_and_address(tmp_path: Path, capsys):
    torch.save(Vanilla().state_dict(), tmp_path / 'weights.pth')
    assert main(['compare', 'none.py', str(tmp_path / 'weights.pth')]) == 2
    error = capsys.readouterr().err
    assert 'none.py: does not resolve: FileNotFoundError' in error
    assert 'check the path' in error and 'Traceback' not in error
    assert main(['compare', 'none.py', 'nowhere://weights', '--traceback']) == 2
    error = capsys.readouterr().err
    assert 'checkpoint nowhere://weights cannot be read' in error
    assert 'Traceback' in error
