"""Anchors never decay, and nothing else about an optimizer changes."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
from mmengine.optim.scheduler import MultiStepLR
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope
from torch import Tensor, nn

from aib_mm.attention import AIBAttention
from aib_mm.quantizer import VQAnchorQuantizer
from aib_mm.training.anchor_decay import AnchorSparing, spare_anchors

DECAY = 0.1
SGD = dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=DECAY)
ANCHORS = 'neck.quantizer.anchors'
# ``paramwise_cfg`` as recipes have it.
PARAMWISE = [
    None,
    {},
    dict(norm_decay_mult=0.0),
    dict(bias_lr_mult=2.0, bias_decay_mult=0.0, bypass_duplicate=True),
    dict(flat_decay_mult=0.5),
    dict(custom_keys={'neck': dict(lr_mult=0.1, decay_mult=2.0)}),
]


def model(quantised: bool = True) -> nn.Module:
    quantizer = dict(type='VQAnchorQuantizer', num_anchors=4) if quantised else None
    neck = AIBAttention(3, quantizer=quantizer)
    return nn.ModuleDict(dict(norm=nn.BatchNorm2d(3), neck=neck))


def groups(
    module: nn.Module, scope: str | None = None, optimizer: dict = SGD, **cfg: Any
) -> list[dict]:
    """Parameter groups of the optimizer that a Runner of this scope builds."""
    wrapper = dict(type='OptimWrapper', optimizer=optimizer, **cfg)
    if scope is None:
        return build_optim_wrapper(module, wrapper).optimizer.param_groups
    with DefaultScope.overwrite_default_scope(scope):
        return build_optim_wrapper(module, wrapper).optimizer.param_groups


def mmengines_own(module: nn.Module, paramwise: dict | None) -> list[dict]:
    cfg = dict(type='OptimWrapper', optimizer=SGD)
    return DefaultOptimWrapperConstructor(cfg, paramwise)(module).optimizer.param_groups


def settings(module: nn.Module, found: list[dict]) -> dict[str, dict]:
    """Those of the optimizer for each weight, by the weight's name."""
    names = {id(weight): name for name, weight in module.named_parameters()}
    return {
        names[id(weight)]: {k: v for k, v in group.items() if k != 'params'}
        for group in found
        for weight in group['params']
    }


def same(one: list[dict], other: list[dict]) -> bool:
    """Whether the groups are equal, weight by weight and in their order."""

    def plain(found: list[dict]) -> list[dict]:
        return [dict(g, params=[id(p) for p in g['params']]) for g in found]

    return plain(one) == plain(other)


@pytest.mark.parametrize('scope', [None, 'mmpretrain', 'mmdet', 'mmseg'])
@pytest.mark.parametrize('paramwise', PARAMWISE)
def test_only_the_anchors_are_spared(scope: str | None, paramwise: dict | None) -> None:
    if scope is not None:
        pytest.importorskip(scope)
    module = model()
    found = settings(module, groups(module, scope, paramwise_cfg=paramwise))
    expected = settings(module, mmengines_own(module, paramwise))
    assert expected[ANCHORS]['weight_decay'] != 0
    expected[ANCHORS]['weight_decay'] = 0.0
    assert found == expected


@pytest.mark.parametrize('paramwise', PARAMWISE)
def test_without_anchors_the_groups_are_mmengines(paramwise: dict | None) -> None:
    module = model(quantised=False)
    found = groups(module, paramwise_cfg=paramwise)
    assert same(found, mmengines_own(module, paramwise))


def test_one_more_group_where_all_weights_are_alike() -> None:
    """As mmengine's group in front, so that what is fused stays fused."""
    module = model()
    all_but_anchors, anchors = groups(module)
    assert all_but_anchors['weight_decay'] == DECAY
    assert [id(p) for p in anchors['params']] == [id(module['neck'].quantizer.anchors)]
    (whole,) = mmengines_own(module, None)
    del all_but_anchors['params'], anchors['params'], whole['params']
    assert whole == all_but_anchors == dict(anchors, weight_decay=DECAY)


def test_the_rate_that_a_config_gives_the_anchors_holds() -> None:
    keys = {'quantizer': dict(lr_mult=0.5), 'neck': dict(lr_mult=0.1)}
    module = model()
    found = settings(module, groups(module, paramwise_cfg=dict(custom_keys=keys)))
    assert (found[ANCHORS]['lr'], found[ANCHORS]['weight_decay']) == (0.5, 0.0)
    others = {name: each['lr'] for name, each in found.items() if 'branches' in name}
    assert set(others.values()) == {0.1}


@pytest.mark.parametrize(
    ('optimizer', 'count'),
    [
        (dict(type='SGD', lr=1.0), 1),
        (dict(type='SGD', lr=1.0, weight_decay=0), 1),
        (dict(type='LBFGS', lr=1.0), 1),  # refuses a second group
        (dict(type='Adam', lr=1.0), 1),
        (dict(type='AdamW', lr=1.0), 2),  # decays by default
        (dict(type=torch.optim.AdamW, lr=1.0), 2),
    ],
)
def test_a_second_group_only_where_there_is_decay(optimizer: dict, count: int) -> None:
    found = groups(model(), optimizer=optimizer)
    assert len(found) == count
    assert found[-1].get('weight_decay', 0) == 0


def test_one_constructor_serves_several_models() -> None:
    cfg = dict(type='OptimWrapper', optimizer=SGD)
    constructor = AnchorSparing(cfg)
    for module, count in ((model(), 2), (model(), 2)):
        assert len(constructor(module).optimizer.param_groups) == count


def step(module: nn.Module, wrapper: Any) -> None:
    """A step on scores of which none is near the last anchor."""
    result = module(torch.full((8,), 0.1))
    wrapper.update_params(result.vq_loss)


def test_an_anchor_that_nobody_picks_stays_where_it_is() -> None:
    quantizer = VQAnchorQuantizer(num_anchors=3)
    wrapper = build_optim_wrapper(quantizer, dict(optimizer=SGD))
    for _ in range(5):
        step(quantizer, wrapper)
    assert quantizer.anchors[1:].tolist() == [0.5, 1.0]
    assert quantizer.anchors[0] != 0.0


def test_schedules_and_resuming_work() -> None:
    """Rates of both groups follow; a copy of the state goes on as the original."""

    def start() -> tuple[nn.Module, Any, MultiStepLR]:
        quantizer = VQAnchorQuantizer(num_anchors=3)
        holder = nn.ModuleDict(dict(quantizer=quantizer, other=nn.Linear(2, 2)))
        wrapper = build_optim_wrapper(holder, dict(optimizer=dict(SGD, lr=0.5)))
        return holder, wrapper, MultiStepLR(wrapper, milestones=[2, 3], gamma=0.1)

    def go(holder: nn.ModuleDict, wrapper: Any, schedule: MultiStepLR) -> Tensor:
        step(holder['quantizer'], wrapper)
        schedule.step()
        return holder['quantizer'].anchors.detach().clone()

    one, other = start(), start()
    for _ in range(2):
        go(*one)
    for mine, theirs in zip(other, one, strict=True):
        mine.load_state_dict(deepcopy(theirs.state_dict()))
    for _ in range(2):
        assert torch.equal(go(*other), go(*one))
    rates = [group['lr'] for group in one[1].optimizer.param_groups]
    assert rates == pytest.approx([0.005, 0.005])


def test_a_constructor_of_ones_own_can_spare_them() -> None:
    class Mine(DefaultOptimWrapperConstructor):
        def add_params(self, params: list, module: nn.Module, *args: Any, **kw: Any):
            super().add_params(params, module, *args, **kw)
            for group in params:
                group['lr'] = 0.25

    try:
        spare_anchors(OPTIM_WRAPPER_CONSTRUCTORS, Mine)
        module = model()
        keys = {'custom_keys': {'norm': dict(decay_mult=3.0)}}
        found = groups(module, constructor='Mine', paramwise_cfg=keys)
        found = settings(module, found)
    finally:
        OPTIM_WRAPPER_CONSTRUCTORS.module_dict.pop('Mine')
    assert {each['lr'] for each in found.values()} == {0.25}
    assert found[ANCHORS]['weight_decay'] == 0
    assert found['norm.weight']['weight_decay'] == pytest.approx(3 * DECAY)


# --- the constructors of the hosts -------------------------------------------------


def layered(host: str) -> dict:
    """A host's constructor that does not take care of vectors, and its settings."""
    if host == 'mmpretrain':
        name = 'LearningRateDecayOptimWrapperConstructor'
        return dict(constructor=name, paramwise_cfg=dict(layer_decay_rate=0.5))
    return dict(
        constructor='ForceDefaultOptimWrapperConstructor',
        paramwise_cfg=dict(flat_decay_mult=2.0, force_default_settings=True),
    )


@pytest.mark.parametrize('host', ['mmpretrain', 'mmseg'])
def test_constructors_of_the_hosts_spare_them(host: str) -> None:
    pytest.importorskip(host)
    module = model()
    module.get_layer_depth = lambda name: (0 if 'neck' in name else 1, 2)
    found = settings(module, groups(module, host, **layered(host)))
    assert found[ANCHORS]['weight_decay'] == 0
    assert {name for name in found if found[name]['weight_decay'] == 0} == {ANCHORS}
    assert found['norm.weight']['lr'] == 1.0
    assert found[ANCHORS]['lr'] == (0.5 if host == 'mmpretrain' else 1.0)


@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_layer_wise_decay_of_the_hosts_spares_every_vector(host: str) -> None:
    pytest.importorskip(host)

    class ConvNeXt(nn.Conv2d):
        """Named so, since the constructor asks for the name."""

    module = model()
    module['backbone'] = ConvNeXt(3, 3, 1)
    paramwise = dict(num_layers=6, decay_rate=0.5, decay_type='layer_wise')
    name = 'LearningRateDecayOptimizerConstructor'
    found = groups(module, host, constructor=name, paramwise_cfg=paramwise)
    decays = {k: v['weight_decay'] for k, v in settings(module, found).items()}
    assert decays[ANCHORS] == 0
    shapes = {key: weight.ndim for key, weight in module.named_parameters()}
    assert decays == {key: DECAY if shapes[key] > 1 else 0 for key in shapes}
