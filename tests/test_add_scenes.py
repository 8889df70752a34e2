"""``add`` in detectors and segmentors: necks, heads, and levels that nobody reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.config import Config
from runner_logs import own_loggers

from aib_mm.__main__ import main

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

RISE = dict(price_begin=0.25, price_end=0.5)  # shares of the training
SEGMENTOR = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(640, 640)),
    backbone=dict(type='ResNet', depth=18, base_channels=8),
    decode_head=dict(type='{head}', in_channels={channels}, in_index={index},
        channels=8, num_classes=3{more}),
    auxiliary_head={auxiliary},
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
"""
AUXILIARY = (
    "dict(type='FCNHead', in_channels=32, in_index=2, channels=8, num_classes=3, "
    'num_convs=1)'
)
PYRAMID = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64)),
    backbone=dict(type='ResNet', depth=18, base_channels=8),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4),
    decode_head=dict(type='FCNHead', in_channels=8, in_index=0, channels=8,
        num_classes=3, num_convs=1),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
"""


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    with own_loggers():
        yield


def added(config: Path, folder: Path, *options: str) -> tuple[str, Config]:
    """What ``add`` writes, and the config that this is."""
    out = folder / 'mine.py'
    assert main(['add', str(config), '--out', str(out), *options]) == 0
    text = out.read_text()
    # the path to the base is as long as the machine makes it, and cannot be broken
    written = [line for line in text.splitlines() if not line.startswith('_base_ =')]
    assert all(len(line) <= 88 for line in written), text
    return text, Config.fromfile(out)


def segmentor(
    folder: Path,
    head: str = 'FCNHead',
    channels: object = 64,
    index: object = 3,
    auxiliary: str = AUXILIARY,
    more: str = '',
) -> Path:
    """A narrow ResNet-18 with four levels, and heads that name theirs."""
    path = folder / 'base.py'
    path.write_text(
        SEGMENTOR.format(
            head=head, channels=channels, index=index, auxiliary=auxiliary, more=more
        )
    )
    return path


def detector(repo: Path) -> Path:
    return repo / 'configs/mmdet/faster_rcnn_r18-narrow_digitscenes.py'


def test_a_detector_is_attended_to_behind_its_neck(repo: Path, tmp_path: Path) -> None:
    text, cfg = added(detector(repo), tmp_path, '--quantizer', '5')
    neck = cfg.model.neck
    assert 'behind its neck' in text
    assert (neck.pre_neck.type, neck.in_channels) == ('FPN', 64)
    assert 'shared' not in neck
    assert cfg.default_hooks.aib_loss == dict(type='AIBLossHook')
    assert cfg.default_hooks.checkpoint  # of the base


@pytest.mark.parametrize('cascade', [False, True])
def test_our_heads_for_a_detector(cascade: bool, repo: Path, tmp_path: Path) -> None:
    path = tmp_path / 'base.py'
    text = f'_base_ = {str(detector(repo))!r}\n'
    if cascade:
        text += (
            "model = dict(roi_head=dict(type='CascadeRoIHead', num_stages=2, "
            'stage_loss_weights=[1, 1], bbox_head=[dict(type="Shared2FCBBoxHead", '
            'in_channels=64, fc_out_channels=16, roi_feat_size=7, num_classes=10, '
            'reg_class_agnostic=True, bbox_coder=dict(type="DeltaXYWHBBoxCoder"))] * 2)'
            ', train_cfg=dict(rcnn=[dict(assigner=dict(type="MaxIoUAssigner", '
            'pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou), sampler=dict('
            'type="RandomSampler", num=8, pos_fraction=0.25), pos_weight=-1, '
            'debug=False) for iou in (0.5, 0.6)]))\n'
        )
    path.write_text(text)
    text, cfg = added(path, tmp_path, '--bottleneck', '--price', '0.1')
    heads = cfg.model.roi_head.bbox_head
    for head in heads if cascade else [heads]:
        assert head.type == 'GaussianBBoxHead'
        assert head.aib_loss == dict(type='AIBLoss', attention_price=0.1, **RISE)
        assert head.num_classes == 10
    kind = 'GaussianCascadeRoIHead' if cascade else 'GaussianRoIHead'
    assert cfg.model.roi_head.type == kind
    assert 'aib_loss' not in cfg.get('default_hooks', {})
    assert cfg.model.neck.modulation == 'replace'
    assert cfg.model.neck.in_channels == [64] * 4


def test_a_detector_without_our_head_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / 'mine.py')
    config = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    assert main(['add', config, '--out', out, '--bottleneck']) == 2
    assert 'RetinaNet has no RoI head' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_levels_that_no_head_reads_are_left_out(tmp_path: Path) -> None:
    """As in FCN and PSPNet, whose heads read the last two levels."""
    text, cfg = added(segmentor(tmp_path), tmp_path)
    assert 'out_indices=(2, 3),  # attend to the levels that the heads read' in text
    assert 'shared=False,  # channels differ' in text
    assert cfg.model.neck.in_channels == [32, 64]
    assert cfg.model.decode_head.in_index == 1
    assert cfg.model.auxiliary_head.in_index == 0
    assert 'find_unused_parameters' not in text


def test_heads_in_a_list_are_renumbered(tmp_path: Path) -> None:
    other = AUXILIARY.replace('in_channels=32, in_index=2', 'in_channels=8, in_index=0')
    path = segmentor(tmp_path, index=-1, auxiliary=f'[{AUXILIARY}, {other}]')
    _, cfg = added(path, tmp_path)
    assert tuple(cfg.model.backbone.out_indices) == (0, 2, 3)
    assert [head.in_index for head in cfg.model.auxiliary_head] == [1, 0]
    assert cfg.model.decode_head.in_index == -1
    assert cfg.model.auxiliary_head[0].num_classes == 3


def test_a_backbone_whose_levels_cannot_be_chosen(tmp_path: Path) -> None:
    """HRNet has no ``out_indices``: branches that nobody reads stay, and are named."""
    stage = (
        'num_modules=1, num_branches={0}, block="BASIC", num_blocks=(1,) * {0}, '
        'num_channels=(4, 8, 12, 16)[:{0}]'
    )
    stages = ', '.join(f'stage{n}=dict({stage.format(n)})' for n in (2, 3, 4))
    first = (
        'stage1=dict(num_modules=1, num_branches=1, block="BOTTLENECK", '
        'num_blocks=(1,), num_channels=(4,))'
    )
    path = segmentor(tmp_path, channels=16, auxiliary='None')
    text = path.read_text().replace(
        "dict(type='ResNet', depth=18, base_channels=8)",
        f"dict(type='HRNet', extra=dict({first}, {stages}))",
    )
    path.write_text(text)
    text, cfg = added(path, tmp_path)
    assert 'find_unused_parameters = True  # no head reads level 0, 1, 2' in text
    assert cfg.model.neck.in_channels == [4, 8, 12, 16]
    assert main(['doctor', str(tmp_path / 'mine.py')]) == 0  # it is meant


@pytest.mark.parametrize(
    ('head', 'ours', 'settings'),
    [
        ('FCNHead', 'AIBFCNHead', {}),
        ('PSPHead', 'AIBPSPHead', {}),
        (
            'UPerHead',
            'AIBDecodeHead',
            dict(channels=[8, 16, 32, 64], index=[0, 1, 2, 3]),
        ),
    ],
)
def test_our_heads_for_a_segmentor(
    head: str, ours: str, settings: dict, tmp_path: Path
) -> None:
    path = segmentor(tmp_path, head, **settings)
    _, cfg = added(path, tmp_path, '--bottleneck', '--quantizer', '5')
    assert cfg.model.decode_head.type == ours
    assert cfg.model.decode_head.channels == 8
    assert 'default_hooks' not in cfg


def test_a_segmentor_without_our_head_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = segmentor(tmp_path, 'ASPPHead', more=', dilations=(1, 2)')
    out = str(tmp_path / 'mine.py')
    assert main(['add', str(path), '--out', out, '--bottleneck']) == 2
    assert 'not for ASPPHead; leave --bottleneck out' in capsys.readouterr().err


def test_a_price_begins_when_something_is_learnt(tmp_path: Path) -> None:
    _, cfg = added(segmentor(tmp_path), tmp_path, '--price', '.1')
    price = dict(attention_price=0.1, **RISE)
    assert cfg.default_hooks.aib_loss == dict(type='AIBLossHook', **price)
    assert cfg.model.neck.initial_score == 0.95


def test_tokens_are_attended_to_before_the_neck(repo: Path, tmp_path: Path) -> None:
    """One score a visual token, then Feature2Pyramid (paper, 4.2.4)."""
    base = repo / 'configs/mmseg/upernet_beit-narrow_digitscenes.py'
    text, cfg = added(base, tmp_path, '--bottleneck')
    assert 'shared=False,  # levels of different depth' in text
    assert cfg.model.neck.in_channels == [64] * 4
    assert cfg.model.neck.post_neck.type == 'Feature2Pyramid'
    assert 'pre_neck' not in cfg.model.neck
    assert cfg.model.decode_head.type == 'AIBDecodeHead'


def test_maps_of_different_sizes_are_attended_to_behind_the_neck(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'base.py'
    path.write_text(PYRAMID)
    text, cfg = added(path, tmp_path)
    assert cfg.model.neck.pre_neck.type == 'FPN'
    # The branch is shared, so that it learns from the one level that is read.
    assert cfg.model.neck.in_channels == 8
    assert 'find_unused_parameters' not in text
