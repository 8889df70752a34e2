"""Attention in the data samples of real hosts with foreign heads, and its evaluator."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import nn

from aib_mm.attention import AIBAttention
from aib_mm.features import AttentionMaps
from aib_mm.interpret import (
    AttentionFieldsHook,
    AttentionVisualizationHook,
    combine_levels,
    record_attention,
    resize_map,
)
from aib_mm.interpret.record import fields

DETECTOR = """
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py']
custom_imports = dict(imports=['aib_mm'])
default_scope = 'mmdet'
model = dict(
    backbone=dict(depth=18, base_channels=8, init_cfg=None),
    neck=dict(
        _delete_=True,
        type='AIBAttention',
        in_channels=8,
        pre_neck=dict(
            type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4
        ),
    ),
    bbox_head=dict(
        num_classes=2,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        anchor_generator=dict(strides=[4, 8, 16, 32]),
    ),
)
test_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root='coco',
        ann_file='instances.json',
        data_prefix=dict(img='images'),
        metainfo=dict(classes=('a', 'b')),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs'),
        ],
    ),
)
test_evaluator = [
    dict(type='CocoMetric', ann_file='coco/instances.json', metric='bbox'),
    dict(type='AttentionLocalization', region='boxes'),
]
test_cfg = dict()
custom_hooks = [dict(type='AttentionFieldsHook')]
"""
SIZES = ((40, 24), (24, 40), (32, 32))  # (H, W): every second one is padded
BOXES = ((4, 2, 10, 6), (8, 4, 12, 9)), ((1, 1, 9, 20),), ()


@pytest.fixture
def detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A RetinaNet with attention and three images of different shapes."""
    pytest.importorskip('mmdet')
    monkeypatch.chdir(tmp_path)
    images = Path('coco/images')
    images.mkdir(parents=True)
    coco: dict[str, list] = dict(images=[], annotations=[], categories=[])
    coco['categories'] = [dict(id=i, name=name) for i, name in enumerate('ab')]
    pixels = np.random.default_rng(0)
    for i, ((height, width), boxes) in enumerate(zip(SIZES, BOXES, strict=True)):
        row = dict(id=i, file_name=f'{i}.png', height=height, width=width)
        coco['images'].append(row)
        picture = pixels.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(picture).save(images / f'{i}.png')
        for x, y, w, h in boxes:
            key = len(coco['annotations'])
            box = dict(bbox=[x, y, w, h], area=w * h, iscrowd=0, category_id=0)
            coco['annotations'].append(dict(box, id=key, image_id=i))
    Path('coco/instances.json').write_text(json.dumps(coco))
    Path('detector.py').write_text(DETECTOR)
    return Config.fromfile('detector.py')


def make_runner(cfg: Config, tmp_path: Path) -> Runner:
    cfg.work_dir = str(tmp_path / 'out')
    cfg.experiment_name = tmp_path.name
    return Runner.from_cfg(cfg)


def object_share(size: tuple[int, int], boxes: tuple) -> float:
    """Share of an image's pixels that lie in a box of whole numbers."""
    inside = np.zeros(size, bool)
    for x, y, w, h in boxes:
        inside[y : y + h, x : x + w] = True
    return inside.mean()


def test_detector_with_foreign_heads_is_measured(detector, tmp_path) -> None:
    runner = make_runner(detector, tmp_path)
    metrics = runner.test()
    assert 'coco/bbox_mAP' in metrics
    shares = [object_share(*pair) for pair in zip(SIZES, BOXES, strict=True)]
    assert metrics['attention/area'] == pytest.approx(np.mean(shares[:2]))
    assert metrics['attention/empty'] == 1
    assert 0 < metrics['attention/energy'] < 1
    inner = runner.model
    assert not inner._forward_hooks and not inner._forward_pre_hooks
    assert not inner.neck._forward_hooks


def test_every_image_of_a_padded_batch_gets_its_own_maps(detector, tmp_path) -> None:
    runner = make_runner(detector, tmp_path)
    model = runner.model.eval()
    hook = AttentionFieldsHook()
    hook.before_test(runner)
    with record_attention(model) as record, torch.no_grad():
        samples = model.test_step(next(iter(runner.test_dataloader)))
    hook.after_test(runner)
    ((levels,),) = record.values()
    size = levels[0].mean.shape[-2:]
    for name, maps in (
        ('attention_mean', [level.mean for level in levels]),
        ('attention_std', [level.std for level in levels]),
    ):
        mean = torch.stack([resize_map(level, size) for level in maps]).mean(dim=0)
        for i, sample in enumerate(samples):
            written = sample.get(name)
            assert written.shape == (1, 16, 16)
            torch.testing.assert_close(written[0], mean[i])
        assert not torch.equal(mean[0], mean[1])
    assert samples[0].metainfo['batch_input_shape'] == (64, 64)
    assert samples[0].metainfo['img_shape'] == (64, 38)


def test_the_testing_tool_measures(detector, capsys, tmp_path) -> None:
    from aib_mm.cli.test import main

    runner = make_runner(detector, tmp_path)
    torch.save(dict(state_dict=runner.model.state_dict()), 'random.pth')
    out = ['--out', 'metrics.json', '--out-item', 'metrics']
    assert main(['detector.py', 'random.pth', *out]) == 0
    metrics = json.loads(Path('metrics.json').read_text())
    assert {'coco/bbox_mAP', 'attention/pointing'} <= set(metrics)


def segmentor(mode: str) -> nn.Module:
    pytest.importorskip('mmseg')
    from mmseg.registry import MODELS

    cfg = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            mean=[128.0] * 3,
            std=[64.0] * 3,
            test_cfg=dict(size_divisor=16),
        ),
        backbone=dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8),
        neck=dict(type='AIBAttention', in_channels=[8, 16, 32, 64], shared=False),
        decode_head=dict(
            type='FCNHead', in_channels=64, in_index=3, channels=8, num_classes=3
        ),
        test_cfg=dict(mode=mode, crop_size=(32, 32), stride=(16, 16)),
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(ConfigDict(cfg)).eval()


def segment(model: nn.Module) -> list:
    from mmseg.structures import SegDataSample

    shape = dict(ori_shape=(40, 24), img_shape=(40, 24))
    data = dict(
        inputs=[torch.randint(0, 256, (3, 40, 24), dtype=torch.uint8)],
        data_samples=[SegDataSample(metainfo=shape)],
    )
    with torch.no_grad():
        return model.test_step(data)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the hook logs."""
    messages: list[str] = []
    monkeypatch.setattr(fields, 'print_log', lambda text, **_: messages.append(text))
    yield messages


def test_segmentor_with_foreign_head_gets_the_fields(said) -> None:
    model = segmentor('whole')
    hook = AttentionFieldsHook(level=1)
    hook.before_val(SimpleNamespace(model=model))
    (sample,) = segment(model)
    assert sample.attention_mean.shape == sample.attention_std.shape == (1, 6, 4)
    assert sample.metainfo['pad_shape'] == (48, 32)
    assert not said


def test_slide_inference_joins_the_maps_of_its_windows(said) -> None:
    model = segmentor('slide')
    hook = AttentionFieldsHook(level=0)
    hook.before_val(SimpleNamespace(model=model))
    with record_attention(model) as record:
        (sample,) = segment(model)
    assert not said
    # Padded to 48×32 pixels; windows of 32×32 by 16; the first level has a 4th of it.
    above, below = (levels[0].mean[0] for levels in record['neck'])
    expected = torch.cat(
        [above[:, :4], (above[:, 4:] + below[:, :4]) / 2, below[:, 4:]], 1
    )
    assert sample.attention_mean.shape == (1, 12, 8)
    torch.testing.assert_close(sample.attention_mean, expected)
    assert sample.attention_std.shape == (1, 12, 8)


def test_passes_that_are_no_windows_write_nothing_and_say_so_once(said) -> None:
    model = segmentor('slide')
    model.neck.register_forward_hook(_again)
    hook = AttentionFieldsHook()
    hook.before_val(SimpleNamespace(model=model))
    for _ in range(2):
        (sample,) = segment(model)
        assert 'attention_mean' not in sample
    (message,) = said
    assert 'several times for one batch' in message


def _again(module: nn.Module, inputs: Any, output: Any) -> None:
    """One pass more for the first one."""
    if not hasattr(module, 'passed'):
        module.passed = True
        module(*inputs)
        del module.passed


def test_test_time_augmentation_writes_nothing_and_says_so(detector, said) -> None:
    from mmdet.models.test_time_augs import DetTTAModel
    from mmdet.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmdet'):
        model = DetTTAModel(module=MODELS.build(detector.model))
    assert isinstance(model, BaseTTAModel)
    hook = AttentionFieldsHook()
    hook.before_test(SimpleNamespace(model=model))
    assert not model.module.neck._forward_hooks
    hook.after_test(SimpleNamespace(model=model))
    assert not model.module._forward_hooks
    (message,) = said
    assert 'DetTTAModel merges several predictions' in message


class Predictor(BaseModel):
    """The least model that predicts; ``results`` per image, ``own`` fields, or not."""

    def __init__(self, results: int = 1, own: bool = False, levels: int = 1) -> None:
        super().__init__()
        self.neck = AIBAttention([4] * levels, shared=levels == 1)
        self.levels = levels
        self.results = results
        self.own = own
        self.breaks = False

    def forward(self, inputs, data_samples=None, mode='predict') -> Any:
        self.neck((inputs,) * self.levels)
        if self.breaks:
            raise RuntimeError('broken')
        if mode != 'predict':
            return (inputs,)
        samples = [BaseDataElement() for _ in range(len(inputs) * self.results)]
        for sample in samples if self.own else ():
            sample.attention_mean = 'its own'
        return samples


def watched(model: nn.Module, **hook: Any) -> SimpleNamespace:
    runner = SimpleNamespace(model=model.eval(), hook=AttentionFieldsHook(**hook))
    runner.hook.before_val(runner)
    return runner


def test_fields_of_a_head_do_not_stand_in_the_way_of_the_hooks_own() -> None:
    model = Predictor(own=True)
    watched(model)
    sample = model(torch.rand(2, 4, 3, 3))[1]
    assert sample.attention_mean.shape == sample.attention_std.shape == (1, 3, 3)


@pytest.mark.parametrize('level', [0, 1, -1])
def test_the_level_holds_behind_the_heads_of_this_package(level: int) -> None:
    pytest.importorskip('mmpretrain')
    from mmpretrain.registry import MODELS

    cfg = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
        neck=dict(type='AIBAttention', in_channels=[8, 16], shared=False),
        head=dict(
            type='AIBClsHead',
            num_classes=3,
            latent_dim=4,
            encoder=dict(type='GaussianEncoder', in_features=16),
        ),
    )
    cfg['backbone'].update(out_indices=(0, 1), expansion=1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(ConfigDict(cfg)).eval()
    inputs = torch.rand(2, 3, 32, 32)
    assert 'attention_mean' not in model(inputs, mode='predict')[0]
    watched(model, level=level)
    with record_attention(model) as record:
        samples = model(inputs, mode='predict')
    ((levels,),) = record.values()
    for i, sample in enumerate(samples):
        assert torch.equal(sample.attention_mean, levels[level].mean[i])
        assert torch.equal(sample.attention_std, levels[level].std[i])


def test_a_picture_has_a_level_of_its_own() -> None:
    """The hook that draws neither writes the fields nor reads them."""
    model = Predictor(levels=2)
    picture = AttentionVisualizationHook(level=1)
    picture.before_val(SimpleNamespace(model=model.eval()))
    inputs = torch.rand(2, 4, 3, 3)
    assert 'attention_mean' not in model(inputs)[0]
    watched(model, level=0)
    with record_attention(model) as record:
        samples = model(inputs)
    ((levels,),) = record.values()
    for i, (sample, (mean, std)) in enumerate(zip(samples, picture._maps, strict=True)):
        assert torch.equal(sample.attention_mean, levels[0].mean[i])
        assert torch.equal(mean, levels[1].mean[i])
        assert torch.equal(std, levels[1].std[i])


def test_what_is_no_prediction_is_left_alone() -> None:
    model = Predictor()
    watched(model)
    inputs = torch.rand(2, 4, 3, 3)
    assert model(inputs, mode='tensor')[0] is inputs


def test_maps_that_fit_no_prediction_are_not_written(said) -> None:
    model = Predictor(results=2)
    watched(model)
    assert not any(
        'attention_mean' in sample for sample in model(torch.rand(3, 4, 2, 2))
    )
    assert 'makes 6 predictions of 3 maps' in said[0]


def test_an_error_leaves_no_second_set_of_hooks() -> None:
    model = Predictor()
    runner = watched(model)
    model.breaks = True
    with pytest.raises(RuntimeError, match='broken'):
        model(torch.rand(1, 4, 2, 2))
    model.breaks = False
    runner.hook.before_test(runner)
    assert len(model._forward_hooks) == len(model.neck._forward_hooks) == 1
    assert 'attention_mean' in model(torch.rand(1, 4, 2, 2))[0]
    runner.hook.after_test(runner)
    assert not model._forward_hooks and not model.neck._forward_hooks


def maps(mean: torch.Tensor) -> AttentionMaps:
    return AttentionMaps(mean, mean / 4, mean[None], None)


def test_levels_are_averaged_at_the_finest() -> None:
    coarse = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    fine = torch.full((1, 1, 1, 4), 0.5)
    mean, std = combine_levels([maps(coarse), maps(fine)])
    # Centres of the four pixels at -0.25, 0.25, 0.75 and 1.25 of the two.
    expected = torch.tensor([0.25, 0.375, 0.625, 0.75]).view(1, 1, 1, 4)
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(std, expected / 4)
    assert torch.equal(combine_levels([maps(coarse), maps(fine)], 0)[0], coarse)


def test_bad_levels_are_named() -> None:
    with pytest.raises(ValueError, match=r"'mean'.* an integer >= -1, got 'max'"):
        AttentionFieldsHook(level='max')
    model = Predictor()
    watched(model, level=1)
    with pytest.raises(ValueError, match=r'level must be less than 1, .* got 1'):
        model(torch.rand(1, 4, 2, 2))
    with pytest.raises(ValueError, match='Linear holds no AIBAttention'):
        watched(nn.Linear(2, 2))
