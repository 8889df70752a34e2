"""The neck: layout of the samples, limits, who takes the losses, and its messages."""

import gc
import math
import weakref
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from torch import nn

from aib_mm.attention import AIBAttention
from aib_mm.features import AttendedFeatures
from aib_mm.interpret import record_attention
from aib_mm.modulation import MODULATIONS, modulate
from aib_mm.noise import AdditiveNoise

QT = dict(type='VQAnchorQuantizer', num_anchors=5)


def features(*channels: int, batch: int = 2) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(batch, c, 8 - i, 6 + i) for i, c in enumerate(channels))


@pytest.mark.parametrize('how', ['scale', 'residual'])
@pytest.mark.parametrize('quantizer', [None, QT])
def test_samples_are_sample_major_and_modulated_by_their_map(how, quantizer) -> None:
    neck = AIBAttention(4, modulation=how, quantizer=quantizer, test_samples=3).eval()
    (x,) = feats = features(4)
    out = neck(feats)
    (maps,) = out.attention
    assert maps.mean.shape == maps.std.shape == (2, 1, 8, 6)
    assert maps.samples.shape == (3, 2, 1, 8, 6)
    assert out.samples[0].shape == (6, 4, 8, 6)
    assert out.num_samples == 3
    expected = torch.cat([modulate(x, a, how) for a in maps.samples])
    torch.testing.assert_close(out.samples[0], expected)
    torch.testing.assert_close(out[0], modulate(x, maps.samples.mean(0), how))


def test_one_sample_is_what_foreign_heads_see() -> None:
    out = AIBAttention(4, test_samples=1).eval()(features(4))
    assert isinstance(out, tuple)
    assert len(out) == 1
    assert torch.equal(out[0], out.samples[0])


def test_no_samples_is_the_mean_attention_without_randomness() -> None:
    neck = AIBAttention(4, test_samples=0).eval()
    feats = features(4)
    state = torch.get_rng_state()
    out = neck(feats)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(out.attention[0].samples[0], out.attention[0].mean)
    torch.testing.assert_close(out[0], out.expected[0])


def test_mean_and_std_come_from_the_two_convolutions() -> None:
    neck = AIBAttention(4, std_kernel_size=3)
    (x,) = feats = features(4)
    maps = neck(feats).attention[0]
    branch = neck.branches[0]
    torch.testing.assert_close(maps.mean, branch.mean_conv(x).sigmoid())
    expected = nn.functional.softplus(branch.std_conv(x) - 5)
    torch.testing.assert_close(maps.std, expected)


def test_released_std_comes_from_the_map_of_means() -> None:
    neck = AIBAttention(4, std_kernel_size=3, std_source='mean')
    maps = neck(features(4)).attention[0]
    branch = neck.branches[0]
    assert sum(p.numel() for p in branch.std_conv.parameters()) == 10
    expected = nn.functional.softplus(branch.std_conv(maps.mean) - 5)
    torch.testing.assert_close(maps.std, expected)


def test_samples_scatter_around_the_mean_by_the_std_and_are_not_clipped() -> None:
    neck = AIBAttention(1, test_samples=20_000).eval()
    nn.init.constant_(neck.branches[0].std_conv.bias, 6.0)
    maps = neck((torch.randn(1, 1, 2, 2),)).attention[0]
    torch.testing.assert_close(maps.samples.mean(0), maps.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(maps.samples.std(0), maps.std, atol=0.05, rtol=0)
    assert maps.samples.min() < 0
    assert maps.samples.max() > 1


def test_initial_score_survives_the_initialisers() -> None:
    # Initialisers write to the current logger, which may be an ended Runner's.
    MMLogger.get_instance('initialisers')
    init = dict(type='Xavier', layer='Conv2d', bias=0)
    neck = AIBAttention(4, initial_score=0.05, init_cfg=init)
    neck.init_weights()
    maps = neck((torch.zeros(1, 4, 8, 8),)).attention[0]
    torch.testing.assert_close(maps.mean, torch.full_like(maps.mean, 0.05))


@pytest.mark.parametrize(('shared', 'branches'), [(True, 1), (False, 2)])
def test_levels_share_a_branch_or_have_their_own(shared: bool, branches: int) -> None:
    neck = AIBAttention([4, 4], shared=shared, quantizer=QT)
    feats = features(4, 4)
    out = neck(feats)
    assert len(neck.branches) == branches
    assert [x.shape for x in out] == [x.shape for x in feats]
    torch.testing.assert_close(
        out.attention[1].mean, neck.branches[-1].mean_conv(feats[1]).sigmoid()
    )


def test_losses_are_means_over_levels_and_samples() -> None:
    neck = AIBAttention([4, 3], shared=False, quantizer=QT, train_samples=2)
    feats = features(4, 3)
    torch.manual_seed(3)
    losses = neck(feats).losses
    torch.manual_seed(3)
    expected = torch.zeros(())
    for branch, x in zip(neck.branches, feats, strict=True):
        mean, std = branch(x)
        scores = mean + std * torch.randn(2, *mean.shape)
        expected = expected + neck.quantizer(scores).vq_loss / 2
    torch.testing.assert_close(losses['vq_loss'], expected)
    torch.testing.assert_close(losses['commit_loss'], expected)


def test_the_mean_branch_feeds_the_mean_alone() -> None:
    @MODELS.register_module(name='DoubleChannels', force=True)
    class DoubleChannels(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(4, 8, 1)

    neck = AIBAttention(4, mean_branch=dict(type='DoubleChannels'))
    branch = neck.branches[0]
    (x,) = feats = features(4)
    maps = neck(feats).attention[0]
    expected = branch.mean_conv(branch.mean_branch(x)).sigmoid()
    torch.testing.assert_close(maps.mean, expected)
    assert branch.std_conv.in_channels == 4


def test_pre_neck_runs_before_and_post_neck_on_every_sample() -> None:
    @MODELS.register_module(name='AddOne', force=True)
    class AddOne(nn.Module):
        def forward(self, feats):
            self.batch = len(feats[0])
            return tuple(x + 1 for x in feats)

    neck = AIBAttention(
        4,
        modulation='scale',
        pre_neck=dict(type='AddOne'),
        post_neck=dict(type='AddOne'),
        test_samples=3,
    ).eval()
    (x,) = feats = features(4)
    out = neck(feats)
    expected = torch.cat([(x + 1) * a + 1 for a in out.attention[0].samples])
    torch.testing.assert_close(out.samples[0], expected)
    torch.testing.assert_close(out[0], (x + 1) * out.attention[0].samples.mean(0) + 1)


@pytest.mark.parametrize(
    ('kind', 'channels'), [('AdditiveNoise', 4), ('PropagatedNoise', 8)]
)
def test_noise_enters_before_the_modulation_and_not_the_attention(kind, channels):
    noise = dict(type=kind, std=0.5, test_samples=2)
    neck = AIBAttention(4, modulation='scale', noise=noise, test_samples=3).eval()
    (x,) = feats = features(4)
    out = neck(feats)
    torch.testing.assert_close(
        out.attention[0].mean, neck.branches[0].mean_conv(x).sigmoid()
    )
    # (L_a, L_z, B, ...): divide the attention out and find the noise on the features.
    samples = out.samples[0].view(3, 2, 2, channels, 8, 6)
    noisy = samples / out.attention[0].samples[:, None]
    torch.testing.assert_close(noisy, noisy[:1].expand_as(noisy), atol=1e-3, rtol=1e-3)
    added = noisy[0, :, :, -4:] - (x if kind == 'AdditiveNoise' else 0)
    assert added.std().item() == pytest.approx(0.5, rel=0.1)
    assert out.num_samples == 6
    assert out.noisy
    clean = torch.cat([x] if channels == 4 else [x, torch.zeros_like(x)], dim=1)
    torch.testing.assert_close(out.expected[0], clean * out.attention[0].mean)


@pytest.mark.parametrize('how', MODULATIONS)
@pytest.mark.parametrize('source', ['input', 'mean'])
@pytest.mark.parametrize('quantizer', [None, QT])
def test_every_parameter_gets_a_gradient(how, source, quantizer) -> None:
    neck = AIBAttention(4, modulation=how, std_source=source, quantizer=quantizer)
    # Away from the decision bound on which an untrained map would sit.
    nn.init.constant_(neck.branches[0].std_conv.bias, 5.0)
    out = neck(features(4))
    loss = out[0].square().sum() + sum(out.take_losses().values())
    loss.backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_task_gradient_through_the_quantizer_is_the_one_without() -> None:
    plain = AIBAttention(4, modulation='scale')
    quantised = AIBAttention(4, modulation='scale', quantizer=QT)
    quantised.load_state_dict(plain.state_dict(), strict=False)
    feats = features(4)
    gradient = torch.randn(2, 4, 8, 6)
    for neck in (plain, quantised):
        torch.manual_seed(1)
        out = neck(feats)
        out.take_losses()
        out[0].backward(gradient)
    for ours, theirs in zip(
        quantised.branches.parameters(), plain.branches.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_losses_nobody_takes_stop_the_backward_pass() -> None:
    out = AIBAttention(4, quantizer=QT)(features(4))
    with pytest.raises(RuntimeError, match='AIBLossHook'):
        out[0].sum().backward()


def test_features_are_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        out = AIBAttention(4, quantizer=QT)(features(4))
        alive = weakref.ref(out.samples[0])
        assert alive() is not None
        del out
        assert alive() is None
    finally:
        gc.enable()


def test_recording_does_not_count_as_taking() -> None:
    neck = AIBAttention(4, quantizer=QT)
    with record_attention(neck):
        out = neck(features(4))
    with pytest.raises(RuntimeError, match='not taken'):
        out[0].sum().backward()


def test_attention_is_float32_under_autocast() -> None:
    neck = AIBAttention(4, quantizer=QT)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = neck(tuple(x.bfloat16() for x in features(4)))
    maps = out.attention[0]
    assert maps.mean.dtype == maps.std.dtype == maps.samples.dtype == torch.float32
    assert out.losses['vq_loss'].dtype == torch.float32
    assert out[0].dtype == torch.bfloat16


def test_type_resolves_from_every_scope_and_with_its_prefix(mmpretrain_scope) -> None:
    for name in ('AIBAttention', 'aib_mm.AIBAttention'):
        neck = MODELS.build(dict(type=name, in_channels=4))
        assert isinstance(neck(features(4)), AttendedFeatures)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(modulation='gate'), "modulation must be one of .* got 'gate'"),
        (dict(std_source='mu'), "std_source must be one of .* got 'mu'"),
        (dict(std_kernel_size=2), 'std_kernel_size must be odd, got 2'),
        (dict(initial_score=0.0), r'initial_score must be in \(0, 1\), got 0\.0'),
        (dict(initial_score='0.5'), r"initial_score must be in \(0, 1\), got '0\.5'"),
        (dict(std_shift='5'), "std_shift must be a finite number, got '5'"),
        (dict(std_shift=math.nan), 'std_shift must be a finite number, got nan'),
        (dict(map_level='last'), "map_level must be None or an index, got 'last'"),
        (dict(in_channels=4.0), 'in_channels must be an integer >= 1, got 4.0'),
        (dict(in_channels=None), 'in_channels must be an integer >= 1, got None'),
        (dict(test_samples=-1), 'test_samples must be an integer >= 0, got -1'),
        (dict(train_samples=0), 'train_samples must be an integer >= 1, got 0'),
        (dict(in_channels=[4, 8]), r'levels of in_channels=\[4, 8\]: set shared=False'),
        (dict(in_channels=[]), 'at least one level'),
        (dict(shared=False), 'shared=False needs in_channels per level'),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AIBAttention(**{'in_channels': 4, **arguments})


def test_wrong_channels_name_both_sides() -> None:
    neck = AIBAttention(4)
    with pytest.raises(ValueError, match=r'in_channels=\[4\].* channels \[5\]'):
        neck(features(5))
    with pytest.raises(ValueError, match=r'channels \[4, 3\]'):
        neck(features(4, 3))
    with pytest.raises(ValueError, match=r'in_channels=\[4\].* channels \[4, 4\]'):
        AIBAttention([4], shared=False)(features(4, 4))
    with pytest.raises(ValueError, match=r'channels \[\]'):
        neck(())


@pytest.mark.parametrize(
    ('feats', 'found'),
    [
        (torch.zeros(2, 4), r'\[\(2, 4\)\]'),
        ((torch.zeros(2, 5, 4),), r'\[\(2, 5, 4\)\]'),
        ([[torch.zeros(2, 4, 3, 3), torch.zeros(2, 4)]], r"\['list'\]"),
        ({'res5': torch.zeros(2, 4, 3, 3)}, r"\['str'\]"),
        ([None], r"\['NoneType'\]"),
    ],
)
def test_what_is_no_map_is_refused_with_its_remedies(feats: Any, found: str) -> None:
    remedy = "out_type='featmap'.* output_cls_token=False.* gap_before_final_norm=False"
    with pytest.raises(
        ValueError, match=rf'features of {found}: .*{remedy}.*post_neck'
    ):
        AIBAttention(4)(feats)


@pytest.mark.parametrize('std', [0, -0.1, math.inf, math.nan])
def test_noise_refuses_a_std_that_is_no_std(std: float) -> None:
    with pytest.raises(ValueError, match=f'std must be positive and finite, got {std}'):
        AdditiveNoise(std=std)


def test_samples_that_nobody_reads_are_not_computed() -> None:
    @MODELS.register_module(name='Counting', force=True)
    class Counting(nn.Module):
        calls = 0

        def forward(self, feats):
            self.calls += 1
            return feats

    neck = AIBAttention(4, post_neck=dict(type='Counting'), test_samples=3).eval()
    out = neck(features(4))
    assert neck.post_neck.calls == 1
    assert out.samples is out.samples
    assert neck.post_neck.calls == 2


def test_a_post_neck_may_return_one_map_and_levels_stay_apart() -> None:
    @MODELS.register_module(name='OneMap', force=True)
    class OneMap(nn.Module):
        def forward(self, feats):
            return feats[0] + feats[1].mean()

    post_neck = dict(type='OneMap')
    neck = AIBAttention([4, 4], quantizer=QT, post_neck=post_neck, train_samples=2)
    out = neck(features(4, 4))
    assert [x.shape for x in out] == [(2, 4, 8, 6)]
    assert [x.shape for x in out.samples] == [(4, 4, 8, 6)]
    assert [maps.mean.shape for maps in out.attention] == [(2, 1, 8, 6), (2, 1, 7, 7)]


def test_no_map_samples_are_no_noise_either() -> None:
    noise = dict(type='AdditiveNoise', test_samples=4)
    neck = AIBAttention(4, noise=noise, test_samples=0).eval()
    feats = features(4)
    torch.testing.assert_close(neck(feats).samples, neck(feats).samples)
    assert neck(feats).num_samples == 1


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
@pytest.mark.parametrize('how', MODULATIONS)
@pytest.mark.parametrize('source', ['input', 'mean'])
def test_a_model_of_another_precision_runs(dtype, how, source) -> None:
    neck = AIBAttention(4, modulation=how, std_source=source, quantizer=QT).to(dtype)
    out = neck(tuple(x.to(dtype) for x in features(4)))
    assert out[0].dtype == dtype
    (out[0].sum() + sum(out.take_losses().values())).backward()
    assert neck.branches[0].mean_conv.weight.grad.isfinite().all()


def test_an_empty_batch_passes() -> None:
    out = AIBAttention(4, quantizer=QT)(features(4, batch=0))
    assert out[0].shape == (0, 4, 8, 6)
    assert out.num_samples == 1
    (out[0].sum() + sum(out.take_losses().values())).backward()


def test_frozen_attention_asks_nobody_to_take_its_losses() -> None:
    neck = AIBAttention(4, quantizer=QT).requires_grad_(False)
    x = torch.randn(1, 4, 3, 3, requires_grad=True)
    neck((x,))[0].sum().backward()
    assert x.grad.abs().sum() > 0


def test_each_quantisation_loss_teaches_its_own_side() -> None:
    neck = AIBAttention(4, quantizer=QT)
    branch = list(neck.branches.parameters())
    anchors = neck.quantizer.anchors
    losses = neck(features(4)).take_losses()
    taught = torch.autograd.grad(
        losses['vq_loss'], [*branch, anchors], retain_graph=True
    )
    assert all(grad.abs().sum() == 0 for grad in taught[:-1])
    assert taught[-1].abs().sum() > 0
    taught = torch.autograd.grad(losses['commit_loss'], [*branch, anchors])
    assert all(grad.abs().sum() > 0 for grad in taught[:-1])
    assert taught[-1].abs().sum() == 0


def test_a_shift_of_zero_is_the_printed_softplus() -> None:
    neck = AIBAttention(4, std_shift=0.0)
    (x,) = feats = features(4)
    expected = nn.functional.softplus(neck.branches[0].std_conv(x))
    torch.testing.assert_close(neck(feats).attention[0].std, expected)
