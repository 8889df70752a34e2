"""What makes a trained model cheaper to run leaves its predictions as they are."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cifar_files import write_cifar10
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from aib_mm.cli import test as test_program
from aib_mm.cli.toolkits import UsageError
from aib_mm.inference import (
    InferenceHook,
    compilable,
    fold_batch_norms,
    prepare,
    prepare_by_name,
)

pytest.importorskip('mmpretrain')
from mmcv.cnn import ConvModule
from mmpretrain.registry import MODELS

from aib_mm.classification.random_batch import random_batch

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs' / 'mmpretrain'
TINY = Path(__file__).with_name('tiny_classifier.py')
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


def trained(model: nn.Module) -> nn.Module:
    """In evaluation mode, with norms that are far from the identity."""
    for module in model.modules():
        if isinstance(module, NORMS) and module.running_mean is not None:
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
    return model.eval()


def classifier(path: Path) -> nn.Module:
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return trained(MODELS.build(cfg.model))


def predicted(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Scores of some images, and the random number that comes after all draws."""
    torch.manual_seed(3)
    with torch.no_grad():
        found = model.test_step(random_batch(3, (32, 32), 10))
    return torch.stack([sample.pred_score for sample in found]), torch.rand(1)


# --- folding ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ('path', 'left'),
    [
        # Without the norms that start a residual block and the last one: no conv feeds
        # them alone.
        (CONFIGS / 'wrn16-narrow_digitscenes.py', 7),
        (CONFIGS / 'wrn16-narrow_aib_digitscenes.py', 10),
        (CONFIGS / 'wrn16-narrow_abn_digitscenes.py', 11),
        (CONFIGS / 'vgg16-narrow_aib_qt_digitscenes.py', 0),
        (CONFIGS / 'vgg16-narrow_att3_digitscenes.py', 0),
        (TINY, 0),
    ],
    ids=lambda value: getattr(value, 'stem', None),
)
def test_folded_norms_change_no_prediction(path: Path, left: int) -> None:
    model = classifier(path)
    before, drawn = predicted(model)
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    folded = fold_batch_norms(model)
    assert len(folded) == len(norms) - left
    assert sum(isinstance(module, NORMS) for module in model.modules()) == left
    after, drawn_after = predicted(model)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
    assert torch.equal(drawn, drawn_after)


class Net(nn.Module):
    """Layers in the order of registration, and what is made of them."""

    def __init__(
        self, run: Callable[['Net', Tensor], Tensor], **layers: nn.Module
    ) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class Standardised(nn.Conv2d):
    """Another function of its weights than their convolution."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight / weight.std(), bias)


def conv() -> nn.Conv2d:
    return nn.Conv2d(3, 3, 3, padding=1)


def norm(**kwargs: bool) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(3, **kwargs)


def chain(net: Net, x: Tensor) -> Tensor:
    return net.norm(net.conv(x))


SHARED = conv()
NETS = {
    'adjacent': (Net(chain, conv=conv(), norm=norm()), True),
    'registered the other way': (Net(chain, norm=norm(), conv=conv()), True),
    'in another module': (
        Net(
            lambda net, x: net.norm(net.inner(x)),
            inner=nn.Sequential(conv()),
            norm=norm(),
        ),
        True,
    ),
    'below what cannot be traced': (
        Net(
            lambda net, x: net.inner(x) if x.sum() > -1e9 else x,
            inner=nn.Sequential(conv(), norm()),
        ),
        True,
    ),
    'below that, with arguments that have defaults': (
        Net(
            lambda net, x: net.inner(x) if x.sum() > -1e9 else x,
            inner=ConvModule(3, 3, 3, padding=1, norm_cfg=dict(type='BN')),
        ),
        True,
    ),
    'registered one after the other only': (
        Net(lambda net, x: net.conv(net.norm(x).relu()), conv=conv(), norm=norm()),
        False,
    ),
    'the conv is read by another, too': (
        Net(
            lambda net, x: (lambda h: h + net.norm(h))(net.conv(x)),
            conv=conv(),
            norm=norm(),
        ),
        False,
    ),
    'the conv is called twice': (
        Net(
            lambda net, x: net.norm(net.conv(x)) + net.conv(2 * x),
            conv=conv(),
            norm=norm(),
        ),
        False,
    ),
    'the norm is called twice': (
        Net(
            lambda net, x: net.norm(net.conv(x)) + net.norm(x), conv=conv(), norm=norm()
        ),
        False,
    ),
    'the conv has two names': (
        Net(
            lambda net, x: net.norm(net.conv(x)) + net.other(x),
            conv=SHARED,
            norm=norm(),
            other=nn.Sequential(SHARED),
        ),
        False,
    ),
    'something in between': (
        Net(lambda net, x: net.norm(net.conv(x).relu()), conv=conv(), norm=norm()),
        False,
    ),
    'no statistics': (
        Net(chain, conv=conv(), norm=norm(track_running_stats=False)),
        False,
    ),
    'not affine': (Net(chain, conv=conv(), norm=norm(affine=False)), True),
    'a conv of another kind': (
        Net(chain, conv=Standardised(3, 3, 3, padding=1), norm=norm()),
        False,
    ),
}


@pytest.mark.parametrize('name', NETS)
def test_a_norm_is_folded_only_into_the_conv_that_feeds_it_alone(name: str) -> None:
    net, folds = NETS[name]
    trained(net)
    x = torch.randn(2, 3, 5, 5)
    before = net(x)
    assert bool(fold_batch_norms(net)) == folds
    left = sum(isinstance(module, NORMS) for module in net.modules())
    assert left == (0 if folds else 1)
    torch.testing.assert_close(net(x), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ('name', 'run', 'norms'),
    [
        (
            'mmdet/faster_rcnn_r18-narrow_aib_qt_digitscenes.py',
            lambda model, images: model.extract_feat(images),
            20,
        ),
        (
            'mmseg/upernet_beit-narrow_aib_qt_digitscenes.py',
            lambda model, images: [model(images, mode='tensor')],
            13,
        ),
    ],
    ids=['detector', 'segmentor'],
)
def test_norms_of_the_other_hosts(name: str, run: Callable, norms: int) -> None:
    host = name.partition('/')[0]
    registry = pytest.importorskip(f'{host}.registry').MODELS
    cfg = Config.fromfile(CONFIGS.parent / name)
    with DefaultScope.overwrite_default_scope(host):
        model = trained(registry.build(cfg.model))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.manual_seed(3)
        before = run(model, images)
        assert len(fold_batch_norms(model)) == norms
        torch.manual_seed(3)
        after = run(model, images)
    for found, wanted in zip(after, before, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_what_was_folded_is_told_by_name() -> None:
    model = classifier(CONFIGS / 'wrn16-narrow_aib_light_digitscenes.py')
    folded = fold_batch_norms(model)
    branch = 'neck.branches.0.mean_branch.layers.block3.0'
    assert folded[f'{branch}.bn2'] == f'{branch}.conv1'
    assert not fold_batch_norms(model), 'nothing is left to fold'


# --- all of it --------------------------------------------------------------------


def test_the_defaults_change_neither_draws_nor_predictions() -> None:
    model = classifier(CONFIGS / 'vgg16-narrow_aib_qt_digitscenes.py')
    before, drawn = predicted(model)
    assert prepare(model) is model
    assert all(
        module.weight.is_contiguous(memory_format=torch.channels_last)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    )
    after, drawn_after = predicted(model)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
    assert torch.equal(drawn, drawn_after)


def test_bfloat16_is_for_the_forward_pass_and_ends_with_it() -> None:
    model = classifier(CONFIGS / 'vgg16-narrow_aib_digitscenes.py')
    before, _ = predicted(model)
    seen: list[torch.dtype] = []
    layer = model.head.encoder.body.layers.pointwise.conv
    layer.register_forward_hook(lambda _, args, out: seen.append(out.dtype))
    prepare(model, dtype=torch.bfloat16)
    after, _ = predicted(model)
    assert set(seen) == {torch.bfloat16} and after.dtype == torch.float32
    torch.testing.assert_close(after, before, atol=0.05, rtol=0)
    assert not torch.is_autocast_enabled('cpu')
    with pytest.raises(RuntimeError, match=r'size|shape|channels'):
        model(torch.randn(1, 5, 32, 32), mode='tensor')
    assert not torch.is_autocast_enabled('cpu'), 'it ends with an error, too'


def test_what_is_compiled_draws_nothing() -> None:
    model = classifier(CONFIGS / 'wrn16-narrow_aib_digitscenes.py')
    parts = [model.backbone, model.neck.branches[0], model.head.encoder.body]
    assert compilable(model) == parts
    vanilla = classifier(CONFIGS / 'wrn16-narrow_digitscenes.py')
    assert compilable(vanilla) == [vanilla.backbone, vanilla.neck]
    before, drawn = predicted(model)
    prepare(model, compile=True)
    with torch.compiler.set_stance('force_eager'):
        after, drawn_after = predicted(model)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
    assert torch.equal(drawn, drawn_after)


@pytest.mark.slow
def test_compiled_parts_predict_the_same() -> None:
    model = classifier(CONFIGS / 'vgg16-narrow_aib_qt_digitscenes.py')
    before, drawn = predicted(model)
    prepare(model, compile=True)
    after, drawn_after = predicted(model)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert torch.equal(drawn, drawn_after)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda m: prepare(m.train()), r'Net is in training mode: call eval\(\)'),
        (
            lambda m: (m.norm.train(), fold_batch_norms(m)),
            r'Net is in training mode \(norm\): call eval\(\)',
        ),
        (
            lambda m: prepare(m, dtype=torch.int8),
            r'dtype must be bfloat16, float16 or None, got torch\.int8',
        ),
        (
            lambda m: prepare_by_name(m, ['channel-last']),
            r"inference option must be one of \['fold', 'channels-last', 'bf16', "
            r"'compile'\], got 'channel-last'; did you mean 'channels-last'\?",
        ),
    ],
)
def test_bad_calls(call: Callable, message: str) -> None:
    net = Net(chain, conv=conv(), norm=norm()).eval()
    with pytest.raises(ValueError, match=message):
        call(net)
    assert isinstance(net.norm, nn.BatchNorm2d), 'nothing was done'


def test_folding_and_averaged_weights_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"'fold' changes the weights that EMAHook"):
        InferenceHook(['fold'], [EMAHook()])
    InferenceHook(['channels-last'], [EMAHook()])


# --- tools/test.py ----------------------------------------------------------------


def test_the_command_prepares_the_trained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path / 'data')
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=classifier(TINY).state_dict()), 'weights.pth')
    scores = []
    prepared: list[list[str]] = []

    def record(model: nn.Module, options: list[str]) -> nn.Module:
        prepared.append(options)
        return prepare_by_name(model, options)

    monkeypatch.setattr('aib_mm.inference.prepare_by_name', record)
    for options in ([], ['--inference', 'fold', 'channels-last']):
        command = [str(TINY), 'weights.pth', '--out', 'found.pkl', *options]
        assert test_program.main(command) == 0
        with open('found.pkl', 'rb') as file:
            found = pickle.load(file)
        scores.append(torch.stack([one['pred_score'] for one in found]))
    assert prepared == [['fold', 'channels-last']]
    assert len(scores[0]) == 20 and scores[0].std() > 1e-3
    torch.testing.assert_close(scores[1], scores[0], atol=1e-5, rtol=0)


def test_two_precisions_are_refused() -> None:
    arguments = ['config.py', 'weights.pth', '--amp', '--inference', 'bf16']
    with pytest.raises(UsageError, match=r'--amp and --inference bf16 both set'):
        test_program.configure(test_program.make_parser().parse_args(arguments))
