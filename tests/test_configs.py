"""What all configs of ``configs/`` promise: to be short, to show their knobs, to load.

That every one takes a training step is ``test_gradients.py``'s.
"""

import ast
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config, utils
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from shipped_configs import CONFIGS, FOLDERS, PATHS, built, image_size, is_large
from torch import nn
from torch.optim import Optimizer

from aib_mm.quantizer import VQAnchorQuantizer
from aib_mm.utils.configs import type_name, walk

#: Parts that sample, and the parts among them that weigh the losses.
SAMPLING = ('AIBAttention', 'AIBLayer')
HEADS = ('AIBClsHead', 'GaussianBBoxHead', 'AIBDecodeHead', 'AIBFCNHead', 'AIBPSPHead')
HEADS = (*HEADS, 'AIBSegformerHead')
SAMPLES = {'train_samples', 'test_samples'}
WEIGHTS = {'beta', 'vq_weight', 'commit_weight', 'attention_price'}
#: How a file of mmseg is named where OneDL's mmengine does not resolve 'mmseg::'.
MMSEG = "__import__('mmseg').__path__[0] + '/.mim/configs/"


@pytest.fixture(scope='module', autouse=True)
def _metafiles_read_once() -> Iterator[None]:
    """mmengine reads all metafiles of a host for every base named by ``::``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, 'load', cache(utils.load))
        yield


@cache
def loaded(path: Path) -> Config:
    pytest.importorskip(path.parent.name)
    return Config.fromfile(path)


def bases(path: Path) -> list[ast.expr]:
    """The files that a config inherits, as it writes them."""
    for line in ast.parse(path.read_text()).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == '_base_':
            value = line.value
            return value.elts if isinstance(value, ast.List) else [value]
    return []


def own_bases(path: Path) -> list[Path]:
    """Those of this repository."""
    names = [base.value for base in bases(path) if isinstance(base, ast.Constant)]
    return [path.parent / name for name in names if '::' not in name]


def depth(path: Path) -> int:
    """How many files of this repository one opens, one after another, to know it."""
    return 1 + max(map(depth, own_bases(path)), default=0)


def test_no_config_is_more_than_three_files_deep() -> None:
    found = {path.name: depth(path) for path in CONFIGS.rglob('*.py')}
    assert {name: depth for name, depth in found.items() if depth > 3} == {}
    assert max(found.values()) == 3


def test_bases_are_plain_names() -> None:
    """Or mmseg's, all in one way."""
    for path in CONFIGS.rglob('*.py'):
        for base in bases(path):
            text = ast.unparse(base)
            assert isinstance(base, ast.Constant) or text.startswith(MMSEG), path
        assert all(base.is_file() for base in own_bases(path)), path


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_a_config_loads_and_shows_its_knobs(path: Path) -> None:
    cfg = loaded(path)
    assert cfg.default_scope == path.parent.name
    assert cfg.get('custom_hooks') is None, 'a hook without a name'
    names = set()
    for place, node in walk(cfg.model):
        name = type_name(node)
        if name in SAMPLING or name in HEADS:
            names.add(name)
            assert set(node) >= SAMPLES, place
        if name in HEADS:
            assert set(node['aib_loss']) >= WEIGHTS, place
    if '_aib' in path.stem:
        assert names & {*SAMPLING}
        foreign = ('fcos', 'retinanet', 'faster_rcnn_r50_aib-plugin')
        assert names & {*HEADS} or path.stem.startswith(foreign)


CHILDREN = {
    'mmpretrain/vgg16-narrow_aib_digitscenes': 'head',
    'mmdet/faster_rcnn_r18-narrow_aib_digitscenes': 'roi_head.bbox_head',
    'mmseg/upernet_beit-narrow_aib_digitscenes': 'decode_head',
}


@pytest.mark.parametrize('name', CHILDREN)
def test_a_child_changes_a_number_by_naming_it(name: str, tmp_path: Path) -> None:
    expected = loaded(CONFIGS / f'{name}.py').to_dict()
    child = tmp_path / 'child.py'
    changes = 'aib_loss=dict(beta=0.5), test_samples=7'
    for part in reversed(CHILDREN[name].split('.')):
        changes = f'{part}=dict({changes})'
    child.write_text(
        f'_base_ = {str(CONFIGS / f"{name}.py")!r}\n'
        f'model = dict(neck=dict(test_samples=3), {changes})\n'
        'default_hooks = dict(attention_fields=dict(level=0))\n'
    )
    expected['model']['neck']['test_samples'] = 3
    head = expected['model']
    for part in CHILDREN[name].split('.'):
        head = head[part]
    head['aib_loss']['beta'] = 0.5
    head['test_samples'] = 7
    expected['default_hooks']['attention_fields']['level'] = 0
    assert Config.fromfile(child).to_dict() == expected


# --- anchors do not decay ----------------------------------------------------------

QUANTISED = [
    pytest.param(
        path,
        marks=[pytest.mark.slow] if is_large(path.stem) else [],
        id=path.stem,
    )
    for path in PATHS
    if '_qt' in path.stem
]


def decays(model: nn.Module, optimizer: Optimizer) -> tuple[set[float], set[float]]:
    """Weight decay of the anchors, and of all else."""
    quantizers = [m for m in model.modules() if isinstance(m, VQAnchorQuantizer)]
    anchors = {id(quantizer.anchors) for quantizer in quantizers}
    assert anchors
    found: tuple[set[float], set[float]] = (set(), set())
    for group in optimizer.param_groups:
        for weight in group['params']:
            found[id(weight) not in anchors].add(group['weight_decay'])
    return found


@pytest.mark.parametrize('path', QUANTISED)
def test_anchors_of_shipped_configs_do_not_decay(path: Path) -> None:
    cfg = deepcopy(loaded(path))
    model = built(cfg, image_size(path))
    wrapper = dict(cfg.optim_wrapper, type='OptimWrapper')  # DeepSpeed may be absent
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        optimizer = build_optim_wrapper(model, wrapper).optimizer
    anchors, others = decays(model, optimizer)
    assert anchors == {0.0}
    assert cfg.optim_wrapper.optimizer.get('weight_decay', 0.0) in others


OWN = {
    'mmpretrain': 'resnet/resnet18_8xb16_cifar10.py',
    'mmdet': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
}


@pytest.mark.parametrize(
    'host', ['mmpretrain', pytest.param('mmdet', marks=pytest.mark.slow)]
)
def test_anchors_of_ones_own_config_do_not_decay(host: str, tmp_path: Path) -> None:
    """README's recipe on a host's config, whose optimizer has weight decay."""
    pytest.importorskip(host)
    own = tmp_path / 'own.py'
    channels = dict(mmpretrain=512, mmdet=256)[host]
    place = dict(mmpretrain='post_neck', mmdet='pre_neck')[host]
    own.write_text(
        f'_base_ = [{f"{host}::{OWN[host]}"!r}]\n'
        "custom_imports = dict(imports=['aib_mm'])\n"
        f"model = dict(neck=dict(type='AIBAttention', in_channels={channels}, "
        "quantizer=dict(type='VQAnchorQuantizer', num_anchors=20), "
        f'{place}={{{{_base_.model.neck}}}}, _delete_=True))\n'
        f'work_dir = {str(tmp_path)!r}\n'
    )
    cfg = Config.fromfile(own)
    runner = Runner.from_cfg(cfg)
    optimizer = runner.build_optim_wrapper(cfg.optim_wrapper).optimizer
    assert decays(runner.model, optimizer) == ({0.0}, {1e-4})


def test_every_folder_of_configs_is_a_hosts() -> None:
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == {*FOLDERS}
