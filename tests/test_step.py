"""The made step of doctor and ``add``: its images, and the truth with them."""

import math
from collections.abc import Iterator

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from runner_logs import own_loggers

from aib_mm import register
from aib_mm.diagnosis.step import _batch, run_step

SEGMENTOR = dict(
    default_scope='mmseg',
    model=dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(640, 640)),
        backbone=dict(type='ResNet', depth=18, base_channels=8),
        decode_head=dict(
            type='FCNHead', in_channels=64, channels=8, num_classes=3, num_convs=1
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    ),
)


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    with own_loggers():
        yield


def test_small_images_are_not_padded_to_the_size_of_crops() -> None:
    """Padding to 640 pixels would take a hundred times the memory."""
    pytest.importorskip('mmseg')
    cfg = Config(SEGMENTOR)
    register(cfg)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    seen: list[tuple[int, ...]] = []
    model.backbone.register_forward_pre_hook(
        lambda module, inputs: seen.append(tuple(inputs[0].shape))
    )
    assert run_step(cfg, model).side == 64
    assert seen == [(2, 3, 64, 64)] * 2


def test_a_loss_that_is_no_number_is_named() -> None:
    pytest.importorskip('mmseg')
    cfg = Config(SEGMENTOR)
    loss = dict(type='CrossEntropyLoss', loss_name='loss_mine', loss_weight=math.nan)
    cfg.model.decode_head.loss_decode = loss
    register(cfg)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    with pytest.raises(ValueError, match=r'random weights: decode\.loss_mine$'):
        run_step(cfg, model)


def test_weights_are_not_loaded_where_their_type_is_left_out() -> None:
    """As in mmdet's PVT configs, whose backbone reads ``checkpoint`` alone."""
    pytest.importorskip('mmseg')
    cfg = Config(SEGMENTOR)
    cfg.model.backbone.init_cfg = dict(checkpoint='https://nowhere.invalid/a.pth')
    register(cfg)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    run_step(cfg, model)
    assert model.backbone.init_cfg is None


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('semantic', [False, True])
def test_detectors_get_the_truth_that_their_pipeline_loads(
    masks: bool, semantic: bool
) -> None:
    """RTMDet takes another way where there are masks; HTC needs a map of classes."""
    pytest.importorskip('mmdet')
    load = dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)
    if semantic:
        load['with_seg'] = True
    pipeline = [dict(type='LoadImageFromFile'), load]
    cfg = Config(
        dict(
            model=dict(backbone=dict()),
            train_dataloader=dict(dataset=dict(dataset=dict(pipeline=pipeline))),
        )
    )
    model = torch.nn.Module()
    model.data_preprocessor = torch.nn.Module()
    for sample in _batch(cfg, model, 'mmdet', 16)['data_samples']:
        assert ('masks' in sample.gt_instances) == masks
        assert ('gt_sem_seg' in sample) == semantic
        if semantic:
            assert sample.gt_sem_seg.sem_seg.shape == (1, 16, 16)
