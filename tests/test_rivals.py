"""Other people's attention: against loops, limits, and in real models and Runners."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import reference_rivals as reference
import torch
from cifar_files import write_cifar10
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from aib_mm.classification import (
    ABNHead,
    CAMHead,
    LocalAttention,
    ProgressiveAttention,
    VGGBlocks,
)
from aib_mm.classification.rivals import ABNBranch, ClassActivation
from aib_mm.classification.rivals.cam_head import class_activation_map
from aib_mm.features import AttentionMaps, WithAttention
from aib_mm.interpret import AttentionFieldsHook, record_attention
from aib_mm.utils.configs import hooks_of

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmpretrain'
TINY = Path(__file__).with_name('tiny_classifier.py')
# What attends, and the sizes of its maps at 32×32.
ATTENDING = {
    'vgg16-narrow_gap': ('head.classify', [8]),
    'vgg16-narrow_pan': ('neck', [32, 16, 8]),
    'vgg16-narrow_att2': ('neck', [16, 8]),
    'vgg16-narrow_att3': ('neck', [32, 16, 8]),
    'wrn16-narrow_abn': ('head.branch', [16]),
}
ALL = [*ATTENDING, 'vgg16-narrow_dvib']
WRN = dict(type='WideResNetBlocks', depth=10, widen_factor=0.25, dropout=0.0)


def config(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}_digitscenes.py')


def classifier(name: str, **model: Any) -> nn.Module:
    return MODELS.build(dict(config(name).model, **model))


def labels(count: int) -> list[DataSample]:
    return [DataSample().set_gt_label(i % 2) for i in range(count)]


def recorded(model: nn.Module, images: Tensor) -> tuple[str, tuple[AttentionMaps, ...]]:
    with record_attention(model) as record, torch.no_grad():
        model(images)
    ((name, (levels,)),) = record.items()
    return name, levels


# --- VGG-GAP ----------------------------------------------------------------------


def test_class_activation_map_is_the_loops_less_its_minimum() -> None:
    features, weights = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3).double()
    found = class_activation_map(features, weights)
    for i in range(2):
        expected = reference.class_activation(features[i], weights[i])
        assert expected.min() < 0
        torch.testing.assert_close(found[i, 0], expected - expected.min())
        assert found[i].min() == 0


def test_the_map_is_that_of_the_predicted_class_and_sums_to_its_score() -> None:
    module, x = ClassActivation(3, 5), torch.randn(4, 3, 2, 6)
    output = module(x)
    (logits,), maps = output, output.attention[0].mean
    weight, bias = module.fc.weight.detach(), module.fc.bias.detach()
    for i, label in enumerate(logits.argmax(dim=1).tolist()):
        raw = reference.class_activation(x[i], weight[label])
        torch.testing.assert_close(maps[i, 0].double(), raw - raw.min())
        # Eq. 1 with the mean: the score is the map's mean over positions.
        assert logits[i, label].item() == pytest.approx(
            raw.mean().item() + bias[label].item(), abs=1e-5
        )
    assert len(set(logits.argmax(dim=1).tolist())) > 1
    assert not maps.requires_grad and logits.requires_grad


# --- VGG-att ----------------------------------------------------------------------


def test_local_attention_equals_the_loops_whatever_the_global_feature() -> None:
    channels, dims = (3, 2), 4
    feats = [torch.randn(2, 3, 3, 4).double(), torch.randn(2, 2, 2, 2).double()]
    module = LocalAttention(channels).double()
    mappings = [torch.randn(dims, count).double() for count in channels]
    us = [torch.randn(dims).double() for _ in channels]
    for score, u, mapping in zip(module.scores, us, mappings, strict=True):
        score.weight.data = (mapping.T @ u).view(1, -1, 1, 1)
    output = module(feats)
    (descriptor,) = output
    for i in range(2):
        g = 3 * torch.randn(dims).double()
        levels = [
            reference.attended_local(x[i], u, mapping, g)
            for x, u, mapping in zip(feats, us, mappings, strict=True)
        ]
        torch.testing.assert_close(
            descriptor[i], torch.cat([pooled for _, pooled in levels])
        )
        for (expected, _), maps in zip(levels, output.attention, strict=True):
            torch.testing.assert_close(maps.mean[i, 0], expected)


def test_without_preference_local_attention_is_average_pooling() -> None:
    module, x = LocalAttention([3]), torch.randn(2, 3, 4, 4)
    nn.init.zeros_(module.scores[0].weight)
    torch.testing.assert_close(module([x])[0], x.mean(dim=(2, 3)))


# --- VGG-PAN ----------------------------------------------------------------------


def test_progressive_attention_equals_the_loops() -> None:
    stage = dict(type='VGGBlocks', blocks=(1,), in_channels=2, width=1 / 16)
    module = ProgressiveAttention(2, [dict(stage, out_blocks=(1,))], hidden_channels=3)
    module.double().eval()
    x = torch.randn(1, 2, 5, 6).double()

    def scores(level: int, features: Tensor) -> dict[tuple[int, int], float]:
        first, _, last = module.scores[level]
        weights = (first.weight, first.bias, last.weight.flatten())
        bias = 0.0 if last.bias is None else last.bias.item()
        return reference.local_context_scores(
            features, *(w.detach() for w in weights), bias
        )

    with torch.no_grad():
        output = module([x])
        attention = {
            place: reference.sigmoid(score) for place, score in scores(0, x[0]).items()
        }
        let = reference.max_pooled(reference.modulated(x[0], attention))
        features = module.stages[0](let[None])[0][0]
    last, descriptor = reference.pooled(
        features, reference.softmax(scores(1, features))
    )
    first = output.attention[0].mean[0, 0]
    assert first.flatten().tolist() == pytest.approx(list(attention.values()))
    torch.testing.assert_close(output.attention[1].mean[0, 0], last)
    torch.testing.assert_close(output[0][0], descriptor)


# --- WRN-ABN ----------------------------------------------------------------------


def abn_head(**branch: Any) -> ABNHead:
    body = dict(WRN, blocks=(3,))
    return ABNHead(3, branch=dict(body, first_stride=1, **branch), body=body)


def test_attention_branch_equals_the_loops() -> None:
    branch = ABNBranch(3, dict(WRN, blocks=(3,), first_stride=1)).double()
    nn.init.constant_(branch.norm.running_var, 0.3)
    nn.init.constant_(branch.norm.running_mean, 0.2)
    nn.init.constant_(branch.norm.weight, 1.5)
    nn.init.constant_(branch.norm.bias, -0.4)
    branch.eval()
    x = torch.randn(1, 8, 3, 4).double()
    with torch.no_grad():
        output = branch(x)
        body = branch.body(x)[0][0]
    attended, logits = output
    weight = branch.class_maps.weight.detach()[:, :, 0, 0]
    bias = branch.class_maps.bias.detach()
    mix = branch.score.weight.detach().flatten()
    sums = torch.zeros(3).double()
    for row, column in reference.positions(body):
        at = body[:, row, column]
        k = [reference.dot(w, at) + float(b) for w, b in zip(weight, bias, strict=True)]
        sums += torch.tensor(k).double()
        score = (reference.dot(mix, torch.tensor(k)) - 0.2) / (0.3 + 1e-5) ** 0.5
        a = reference.sigmoid(1.5 * score - 0.4)
        found = output.attention[0].mean[0, 0, row, column].item()
        assert found == pytest.approx(a, rel=1e-6)
        torch.testing.assert_close(
            attended[0, :, row, column],
            (1 + a) * x[0, :, row, column],
            atol=1e-6,
            rtol=1e-6,
        )
    torch.testing.assert_close(logits[0], sums / 12, atol=1e-6, rtol=1e-6)


def test_both_branches_learn_and_the_perception_branch_predicts() -> None:
    head, x, targets = abn_head().eval(), (torch.randn(4, 8, 8, 8),), labels(4)
    target = torch.cat([sample.gt_label for sample in targets])
    attended, logits = head.branch(x[0])
    perceived = head.fc(head.body(attended)[0].mean(dim=(2, 3)))
    losses = head.loss(x, targets)
    assert set(losses) == {'loss_cls', 'loss_att'}
    cross_entropy = nn.functional.cross_entropy
    torch.testing.assert_close(losses['loss_cls'], cross_entropy(perceived, target))
    torch.testing.assert_close(losses['loss_att'], cross_entropy(logits, target))
    torch.testing.assert_close(head(x), perceived)
    scores = torch.stack([sample.pred_score for sample in head.predict(x)])
    torch.testing.assert_close(scores, perceived.softmax(dim=1))


# --- maps before the pool ---------------------------------------------------------


def test_out_blocks_are_the_layers_of_the_whole_network() -> None:
    whole = VGGBlocks(width=1 / 16).eval()
    parts = VGGBlocks(width=1 / 16, out_blocks=(2, 3, 5)).eval()
    missing, left = parts.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    assert {name.split('.')[1] for name in left} == {'conv6_1', 'conv6_3'}
    assert 'pool5_4' not in dict(parts.layers.named_children())
    x = torch.randn(2, 3, 32, 32)
    maps = parts(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 32, 32), (16, 32, 32), (32, 8, 8)]
    assert maps[-1].shape[1] == parts.out_channels
    for name, layer in whole.layers.named_children():
        x = layer(x)
        if name == 'conv3_3':
            torch.testing.assert_close(maps[1], x)
        if name == 'conv5_3':
            torch.testing.assert_close(maps[2], x)


# --- every one in its model -------------------------------------------------------


@pytest.mark.parametrize('name', ATTENDING)
def test_maps_are_at_the_features_resolution_and_not_random(name: str) -> None:
    module, sizes = ATTENDING[name]
    found, levels = recorded(classifier(name).eval(), torch.randn(2, 3, 32, 32))
    assert found == module
    assert [maps.mean.shape for maps in levels] == [(2, 1, n, n) for n in sizes]
    for maps in levels:
        assert maps.mean.min() >= 0 and not maps.mean.requires_grad
        assert not maps.std.any() and maps.std.shape == maps.mean.shape
        assert torch.equal(maps.samples, maps.mean[None]) and maps.indices is None
    sums = levels[-1].mean.sum(dim=(1, 2, 3))
    if name.split('_')[1] in ('pan', 'att2', 'att3'):
        torch.testing.assert_close(sums, torch.ones(2))
    if name == 'wrn16-narrow_abn' or name == 'vgg16-narrow_pan':
        assert levels[0].mean.max() < 1
        assert levels[0].mean.sum() > 10


@pytest.mark.parametrize('name', ALL)
def test_a_loss_reaches_every_parameter(name: str) -> None:
    model = classifier(name)
    losses = model(torch.randn(4, 3, 32, 32), labels(4), mode='loss')
    assert all(key.startswith('loss') or key == 'kl_nats' for key in losses)
    model.parse_losses(losses)[0].backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # Rounding alone would give less, as behind a softmax that cancels.
        assert parameter.grad.abs().max() > 1e-7, key


@pytest.mark.parametrize('name', ALL)
def test_at_test_nothing_is_random_but_the_latent(name: str) -> None:
    model, images = classifier(name).eval(), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        logits = model(images)
        assert logits.shape == (3, 10)
        assert torch.equal(model(images), logits)
        first, second = (
            torch.stack([s.pred_score for s in model(images, mode='predict')])
            for _ in range(2)
        )
    if name.endswith('dvib'):
        assert not torch.equal(first, second)
    else:
        assert torch.equal(first, second)
        torch.testing.assert_close(first, logits.softmax(dim=1))


@pytest.mark.parametrize('name', ALL)
def test_thirty_steps_learn_two_colours(name: str) -> None:
    cfg = config(name)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    samples = labels(8)
    size = 32 if name.endswith('dvib') else 16  # block 6 has two pools more
    images = torch.randint(0, 256, (8, 3, size, size), dtype=torch.uint8)
    for image, sample in zip(images, samples, strict=True):
        image[int(sample.gt_label)] //= 4
    batch = dict(inputs=list(images), data_samples=samples)
    key = 'loss' if name.split('_')[1] in ('gap', 'pan', 'att2', 'att3') else 'loss_cls'
    losses = [model.train_step(batch, wrapper)[key].item() for _ in range(30)]
    assert min(losses[-5:]) < 0.2 * losses[0]


@pytest.mark.parametrize('name', ALL)
def test_it_trains_under_autocast_with_float32_maps(name: str) -> None:
    model = classifier(name)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(torch.randn(2, 3, 32, 32), labels(2), mode='loss')
        if name in ATTENDING:
            _, levels = recorded(model, torch.randn(2, 3, 32, 32))
            assert {maps.mean.dtype for maps in levels} == {torch.float32}
    model.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('name', ALL)
def test_the_hosts_counter_of_operations_works(name: str) -> None:
    info = get_model_complexity_info(
        classifier(name).eval(), (3, 32, 32), show_table=False, show_arch=False
    )
    # The extractor, whose cost all of them share, is 28 M.
    assert 28e6 < info['flops'] < 70e6


@pytest.mark.parametrize('name', ATTENDING)
def test_data_samples_get_the_map_of_the_last_level(name: str) -> None:
    model, images = classifier(name).eval(), torch.randn(2, 3, 32, 32)
    (options,) = (
        dict(hook)
        for hook in hooks_of(config(name))
        if hook['type'] == 'AttentionFieldsHook'
    )
    del options['type']
    hook = AttentionFieldsHook(**options)
    hook.before_test(SimpleNamespace(model=model))
    with torch.no_grad():
        samples = model(images, mode='predict')
    hook.after_test(SimpleNamespace(model=model))
    _, levels = recorded(model, images)
    for i, sample in enumerate(samples):
        torch.testing.assert_close(sample.attention_mean, levels[-1].mean[i])
        assert 'attention_std' not in sample


# --- in a host's config, through a Runner -----------------------------------------


def run(tmp_path: Path, **model: Any) -> Runner:
    """One epoch of mmpretrain's ResNet, and its test."""
    write_cifar10(tmp_path / 'data', train_per_batch=8, test=10)
    cfg = Config.fromfile(TINY)
    for part in ('train', 'val', 'test'):
        cfg[f'{part}_dataloader'].dataset.data_root = str(tmp_path / 'data')
    cfg.model.update(model)
    cfg.custom_hooks = [
        dict(type='AIBMonitorHook', interval=1),
        dict(type='AIBLossHook'),
        dict(type='AttentionFieldsHook'),
    ]
    cfg.work_dir, cfg.experiment_name = str(tmp_path), tmp_path.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_a_hosts_model_trains_with_it_and_is_monitored(tmp_path: Path) -> None:
    runner = run(tmp_path, neck=dict(type='LocalAttention', in_channels=[32]))
    logged = runner.message_hub.log_scalars
    assert logged['train/attention_mean'].current() == pytest.approx(1 / 16)
    assert logged['train/attention_std'].current() == 0
    assert not any('vq' in key for key in logged)
    assert not runner.model.neck._forward_hooks


# --- messages ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: LocalAttention([]), r'in_channels must name at least one level'),
        (lambda: LocalAttention([0]), 'in_channels must be an integer >= 1, got 0'),
        (
            lambda: LocalAttention([4, 8])([torch.randn(1, 4, 2, 2)]),
            r'LocalAttention\(in_channels=\[4, 8\]\) got .*channels \[4\]:.*out_blocks',
        ),
        (
            lambda: ProgressiveAttention(4, [], hidden_channels=0),
            'hidden_channels must be an integer >= 1, got 0',
        ),
        (
            lambda: ProgressiveAttention(4, [])([torch.randn(1, 3, 2, 2)]),
            r'ProgressiveAttention\(in_channels=4\) got features with 3 channels',
        ),
        (lambda: CAMHead(0, 4), 'num_classes must be an integer >= 1, got 0'),
        (
            lambda: CAMHead(2, 4, conv_channels=1.5),
            'conv_channels must be an integer >= 1, got 1.5',
        ),
        (
            lambda: abn_head(final_norm=True, pointwise=0),
            'pointwise must be an integer >= 1, got 0',
        ),
        (
            lambda: ABNBranch(3, dict(WRN, blocks=(3,)))(torch.randn(1, 8, 8, 8)),
            r'a map of \(4, 4\) for features of \(8, 8\): .*first_stride=1',
        ),
        (
            lambda: VGGBlocks(blocks=(1, 2), out_blocks=(3,)),
            r'out_blocks must be some of the blocks \[1, 2\], in order, got \[3\]',
        ),
        (lambda: VGGBlocks(out_blocks=(5, 3)), r'in order, got \[5, 3\]'),
        (lambda: VGGBlocks(out_blocks=()), r'in order, got \[\]'),
        (
            lambda: VGGBlocks(out_blocks=(5,), pointwise=True),
            r'pointwise comes after the last pool, and out_blocks=\[5\]',
        ),
    ],
)
def test_what_cannot_work_says_so(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_bottleneck_without_attention_has_nothing_to_record() -> None:
    with (
        pytest.raises(ValueError, match='ImageClassifier holds no AIBAttention or oth'),
        record_attention(classifier('vgg16-narrow_dvib')),
    ):
        pass


def test_outputs_are_ordinary_tuples() -> None:
    x = torch.randn(2, 32, 4, 4)
    output = LocalAttention([32])((x,))
    assert isinstance(output, WithAttention) and isinstance(output, tuple)
    assert len(output) == 1 and output[-1].shape == (2, 32)
