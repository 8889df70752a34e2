"""What the neck hands on: an ordinary tuple, losses taken once, one batch norm pass."""

import copy
import pickle
import re
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from aib_mm.attention import AIBAttention
from aib_mm.features import AttendedFeatures, AttentionMaps, WithAttention

QT = dict(type='VQAnchorQuantizer', num_anchors=5)
NUM_A = 3


def features(*channels: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(2, c, 6, 5) for c in channels)


@pytest.fixture
def attended() -> AttendedFeatures:
    neck = AIBAttention(4, quantizer=QT, test_samples=NUM_A, sample_chunk=1)
    with torch.no_grad():
        return neck.eval()(features(4, 4))


def assert_same(copied: AttendedFeatures, original: AttendedFeatures) -> None:
    assert type(copied) is AttendedFeatures
    assert copied.num_samples == original.num_samples == NUM_A
    for ours, theirs in (
        (copied, original),
        (copied.samples, original.samples),
        (copied.expected, original.expected),
        (copied.losses.values(), original.losses.values()),
        (
            [m.samples for m in copied.attention],
            [m.samples for m in original.attention],
        ),
    ):
        pairs = list(zip(ours, theirs, strict=True))
        assert pairs and all(torch.equal(one, other) for one, other in pairs)
    (drawn,) = copied.draw(1)
    assert drawn.num_samples == NUM_A


def test_copies_hold_what_the_original_holds(attended: AttendedFeatures) -> None:
    assert_same(copy.copy(attended), attended)
    assert_same(copy.deepcopy(attended), attended)


def test_a_pickle_holds_no_module(attended: AttendedFeatures) -> None:
    written = pickle.dumps(attended)
    assert_same(pickle.loads(written), attended)
    assert b'AIBAttention' not in written and b'VQAnchorQuantizer' not in written


def test_rebuilt_from_its_maps_it_is_a_tuple_without_attention(
    attended: AttendedFeatures,
) -> None:
    mask = torch.tensor([True, False])
    rebuilt = type(attended)([x[mask] for x in attended])
    assert isinstance(rebuilt, AttendedFeatures)
    assert [x.shape for x in rebuilt] == [(1, 4, 6, 5)] * 2
    assert rebuilt.attention == () and rebuilt.losses == {}
    assert rebuilt.num_samples == 1
    assert all(a is b for a, b in zip(rebuilt.samples, rebuilt, strict=True))
    assert all(a is b for a, b in zip(rebuilt.expected, rebuilt, strict=True))
    assert rebuilt.take_losses() == {}


def test_attention_of_other_methods_is_an_ordinary_tuple_too() -> None:
    maps = AttentionMaps.certain(torch.rand(2, 1, 3, 3))
    found = WithAttention([torch.ones(2)], [maps])
    assert torch.equal(pickle.loads(pickle.dumps(found)).attention[0].mean, maps.mean)
    assert type(found)([torch.zeros(2)]).attention == ()


def test_losses_are_told_as_often_as_asked_and_taken_once() -> None:
    out = AIBAttention(4, quantizer=QT)(features(4))
    assert set(out.losses) == {'vq_loss', 'commit_loss'}
    copied = copy.copy(out)
    assert set(out.take_losses()) == {'vq_loss', 'commit_loss'}
    assert out.take_losses() == {}
    assert copied.take_losses() == {}, 'a copy reads the same losses'
    assert set(out.losses) == {'vq_loss', 'commit_loss'}
    out[0].sum().backward()


def test_looking_at_the_losses_does_not_take_them() -> None:
    out = AIBAttention(4, quantizer=QT)(features(4))
    assert out.losses
    with pytest.raises(RuntimeError, match='not taken by any head'):
        out[0].sum().backward()


@MODELS.register_module(name='NormedNeck', force=True)
class NormedNeck(nn.Module):
    """A post neck with a batch norm, as ``Feature2Pyramid`` has."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.norm(x) for x in feats)


@pytest.mark.parametrize('reads_samples', [True, False])
@pytest.mark.parametrize('num_samples', [1, NUM_A])
def test_batch_norms_behind_the_attention_count_each_iteration_once(
    num_samples: int, reads_samples: bool
) -> None:
    neck = AIBAttention(
        4,
        modulation='scale',
        post_neck=dict(type='NormedNeck'),
        train_samples=num_samples,
    )
    (x,) = feats = features(4)
    out = neck(feats)
    if reads_samples:
        assert out.samples[0].shape == (2 * num_samples, 4, 6, 5)
    norm = neck.post_neck.norm
    assert norm.num_batches_tracked == 1
    # On what the loss sees: every sample, and nothing else.
    seen = torch.cat([x * a for a in out.attention[0].samples])
    torch.testing.assert_close(norm.running_mean, 0.1 * seen.mean((0, 2, 3)))
    expected = 0.9 + 0.1 * seen.transpose(0, 1).flatten(1).var(dim=1)
    torch.testing.assert_close(norm.running_var, expected)
    means = out.samples[0].unflatten(0, (num_samples, 2)).mean(dim=0)
    torch.testing.assert_close(out[0], means)


def test_copies_in_training_run_no_batch_norm() -> None:
    neck = AIBAttention(4, post_neck=dict(type='NormedNeck'), train_samples=NUM_A)
    with torch.no_grad():
        out = neck(features(4))
    for copied in (copy.copy(out), copy.deepcopy(out)):
        assert torch.equal(copied.samples[0], out.samples[0])
    assert neck.post_neck.norm.num_batches_tracked == 1


def test_samples_are_drawn_once_for_all_readers() -> None:
    noise = dict(type='AdditiveNoise', train_samples=2)
    out = AIBAttention(4, noise=noise, train_samples=2)(features(4))
    assert out.samples is out.samples
    (drawn,) = out.draw()
    assert drawn.maps is out.samples


@MODELS.register_module(name='CountsPasses', force=True)
class CountsPasses(nn.Identity):
    """A post neck that counts its passes."""

    passes = 0

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.passes += 1
        return feats


@pytest.mark.parametrize(
    'options', [{}, dict(quantizer=QT), dict(modulation='replace')]
)
def test_without_samples_the_features_are_the_expected_ones(options: dict) -> None:
    neck = AIBAttention(
        [4], post_neck=dict(type='CountsPasses'), test_samples=0, **options
    ).eval()
    out = neck(features(4))
    assert neck.post_neck.passes == 1
    for one, other in zip(out.expected, out, strict=True):
        assert one is other
    neck.test_samples = 1
    assert len(neck(features(4)).expected) == 1
    assert neck.post_neck.passes == 3, 'one pass for the sample, one for the mean'


def test_features_that_are_no_maps_are_refused_with_the_remedy() -> None:
    neck = AIBAttention(4)
    for shape in ((2, 4), (2, 9, 4)):
        message = rf'maps .*, got features of {re.escape(str([shape]))}: .*out_type='
        with pytest.raises(ValueError, match=message):
            neck((torch.randn(shape),))


def test_levels_do_not_share_a_batch_norm() -> None:
    feats = [torch.randn(2, 4, size, size) for size in (8, 4)]

    def neck(norm: str, **settings: Any) -> AIBAttention:
        branch = dict(
            type='ConvModule',
            in_channels=4,
            out_channels=4,
            kernel_size=1,
            norm_cfg=dict(type=norm, **(dict(num_groups=2) if norm == 'GN' else {})),
        )
        return AIBAttention([4, 4], mean_branch=branch, **settings)

    for refused in ('BN', 'SyncBN'):
        with pytest.raises(
            ValueError, match=r'mean_branch.bn is a .*share.*GN.*shared='
        ):
            neck(refused)(feats)
    frozen = neck('BN')
    frozen.branches.eval()
    for used in (neck('GN'), neck('BN', shared=False), neck('BN').eval(), frozen):
        assert len(used(feats)) == 2


def test_a_mean_branch_that_changes_the_maps_size_is_refused_by_name() -> None:
    @MODELS.register_module(name='Halving', force=True)
    class Halving(nn.AvgPool2d):
        def __init__(self) -> None:
            super().__init__(2)

    neck = AIBAttention(4, mean_branch=dict(type='Halving'))
    with pytest.raises(ValueError, match=r'mean_branch Halving .*\(3, 2\).*\(6, 5\)'):
        neck(features(4))
