"""A part's ``init_cfg`` is how it starts, whatever its layers bring along."""

from typing import Any

import pytest
from mmengine.registry import DefaultScope
from torch import nn

from aib_mm.registry import build_part

CONSTANT = [
    dict(type='Constant', layer=['Conv2d', 'Linear'], val=0.25, bias=0.5),
    dict(type='Constant', layer='BatchNorm2d', val=0.75, bias=0.125),
]
BLOCKS = dict(type='WideResNetBlocks', blocks=(3,), depth=10, in_channels=4) | dict(
    widen_factor=0.1, init_cfg=CONSTANT
)
ENCODER = dict(type='GaussianEncoder', in_features=4)
PARTS: dict[str, dict[str, Any]] = {
    'AIBAttention': dict(in_channels=4, std_kernel_size=3, modulation='bias'),
    'AIBLayer': dict(in_channels=4),
    'VGGBlocks': dict(blocks=(1, 2), width=1 / 16, pointwise=True),
    'WideResNetBlocks': dict(depth=10, widen_factor=0.1, pointwise=4),
    'ResNetStage': dict(depth=18, base_channels=4),
    'VGGStage': dict(depth=11, stage=1, norm_cfg=dict(type='BN')),
    'LocalAttention': dict(in_channels=[4, 4]),
    'ProgressiveAttention': dict(in_channels=4, stages=[], hidden_channels=4),
    'AIBClsHead': dict(num_classes=3, encoder=ENCODER),
    'CAMHead': dict(num_classes=3, in_channels=4, conv_channels=4),
    'ABNHead': dict(num_classes=3, branch=dict(BLOCKS, first_stride=1), body=BLOCKS),
}
BOX_HEAD = dict(in_channels=4, roi_feat_size=2, fc_out_channels=4, num_classes=3)


def check_start(module: nn.Module, otherwise: tuple[str, ...] = ()) -> None:
    """Every parameter is what ``CONSTANT`` says, but those with such an ending."""
    module.init_weights()
    norms = {n for n, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)}
    checked = 0
    for name, parameter in module.named_parameters():
        if name.endswith(otherwise):
            continue
        holder, _, kind = name.rpartition('.')
        weight, bias = (0.75, 0.125) if holder in norms else (0.25, 0.5)
        expected = weight if kind == 'weight' else bias
        assert parameter.unique().tolist() == [expected], name
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize('kind', PARTS)
def test_of_classification_and_the_core(kind: str) -> None:
    pytest.importorskip('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        module = build_part(dict(type=kind, init_cfg=CONSTANT, **PARTS[kind]))
    # The bias is the score that the attention starts from, which is promised.
    check_start(module, ('mean_conv.bias',))


def test_of_the_box_head() -> None:
    pytest.importorskip('mmdet')
    settings = dict(type='GaussianBBoxHead', init_cfg=CONSTANT, **BOX_HEAD)
    with DefaultScope.overwrite_default_scope('mmdet'):
        module = build_part(settings)
    # The stds start at zero, so that vanilla weights predict as the vanilla head.
    check_start(module, ('std.weight', 'std.bias'))
