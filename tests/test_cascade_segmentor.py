"""mmseg's ``CascadeEncoderDecoder`` with our neck, which all its heads read."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from torch import Tensor

pytest.importorskip('mmseg')

from mmseg.registry import MODELS

from aib_mm.features import AttendedFeatures
from aib_mm.hooks import AIBLossHook
from aib_mm.segmentation.random_batch import random_batch

pytestmark = pytest.mark.usefixtures('mmseg_scope')

NORM = dict(type='BN')
COMMON = dict(in_channels=8, channels=4, num_classes=3, norm_cfg=NORM)
QT = dict(type='VQAnchorQuantizer', num_anchors=5)
ATTEND = dict(type='AIBAttention', in_channels=8, quantizer=QT)
FIRST = dict(num_convs=1, concat_input=False, **COMMON)
OCR = dict(type='OCRHead', ocr_channels=4, **COMMON)


@MODELS.register_module(force=True)
class NormedLevel(torch.nn.BatchNorm2d):
    """A post neck with a batch norm, on the one level."""

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(super(NormedLevel, self).forward(x) for x in feats)


def build(first: str, **neck: Any) -> torch.nn.Module:
    model = dict(
        type='CascadeEncoderDecoder',
        num_stages=2,
        data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32)),
        backbone=dict(type='UNet', base_channels=8, num_stages=1, norm_cfg=NORM)
        | dict(strides=(1,), enc_num_convs=(1,), dec_num_convs=())
        | dict(downsamples=(), enc_dilations=(1,), dec_dilations=()),
        neck=dict(ATTEND, **neck),
        decode_head=[dict(type=first, **FIRST), OCR],
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    return MODELS.build(ConfigDict(model)).train()


def step(model: torch.nn.Module, hook: bool) -> tuple[dict, AttendedFeatures]:
    """Losses of a training step, and what the neck gave."""
    if hook:
        AIBLossHook().before_train(SimpleNamespace(model=model))
    outputs: list[AttendedFeatures] = []
    model.neck.register_forward_hook(lambda *args: outputs.append(args[-1]))
    data = model.data_preprocessor(random_batch(2, (32, 32), 3), True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    (features,) = outputs
    return losses, features


@pytest.mark.parametrize('num_samples', [1, 2])
@pytest.mark.parametrize(
    ('first', 'hook', 'prefix'),
    [('AIBFCNHead', False, 'decode_0.'), ('FCNHead', True, '')],
    ids=['ours', 'foreign'],
)
def test_losses_count_once(
    first: str, hook: bool, prefix: str, num_samples: int
) -> None:
    model = build(first, train_samples=num_samples)
    losses, features = step(model, hook)
    found = {k: v.item() for k, v in losses.items() if 'vq' in k or 'cmt' in k}
    assert found == pytest.approx(
        {
            f'{prefix}loss_vq': 0.4 * features.losses['vq_loss'].item(),
            f'{prefix}loss_cmt': 0.1 * features.losses['commit_loss'].item(),
        }
    )
    assert {'decode_0.loss_ce', 'decode_1.loss_ce'} <= losses.keys()
    assert model.neck.quantizer.anchors.grad.abs().sum() > 0


def test_untaken_losses_stop_with_the_remedy() -> None:
    with pytest.raises(RuntimeError, match=r'not taken by any head.*AIBLossHook'):
        step(build('FCNHead'), hook=False)


@pytest.mark.parametrize('num_samples', [1, 2])
def test_norms_behind_the_attention_count_once(num_samples: int) -> None:
    """The host runs the first head again for the second; the neck does not."""
    post_neck = dict(type='NormedLevel', num_features=8)
    model = build('AIBFCNHead', post_neck=post_neck, train_samples=num_samples)
    step(model, hook=False)
    assert model.neck.post_neck.num_batches_tracked == 1


def test_it_predicts() -> None:
    model = build('AIBFCNHead', test_samples=2).eval()
    data = model.data_preprocessor(random_batch(2, (32, 32), 3), False)
    with torch.no_grad():
        found = model(**data, mode='predict')
    assert [one.seg_logits.data.shape for one in found] == [(3, 32, 32)] * 2
