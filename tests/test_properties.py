"""What holds for every input, tried on 200 generated ones each."""

from typing import Any

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aib_mm import gaussian
from aib_mm.attention import AIBAttention
from aib_mm.modulation import MODULATIONS, build_modulation, modulate
from aib_mm.quantizer import VQAnchorQuantizer, anchor_usage, perplexity

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)

# Multiples of a power of two: sums and products of them are exact, ties are common.
sixteenths = st.integers(-48, 48).map(lambda n: n / 16)
floats = st.floats(-4, 4, width=32)
numbers = sixteenths | floats
sizes = st.integers(1, 4)


@st.composite
def maps(draw: Any, channels: st.SearchStrategy[int], batch: int) -> torch.Tensor:
    """``(batch, C, H, W)`` of noise of some scale, odd sizes and single pixels too."""
    shape = batch, draw(channels), draw(sizes), draw(sizes)
    scale = 10 ** draw(st.integers(-3, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randn(shape, generator=generator) * scale


def quantizer(anchors: list[float]) -> VQAnchorQuantizer:
    module = VQAnchorQuantizer(len(anchors))
    module.anchors.data = torch.tensor(anchors)
    return module


@EXAMPLES
@given(
    scores=st.lists(numbers, min_size=1, max_size=12),
    anchors=st.lists(numbers, min_size=1, max_size=12),
)
def test_scores_take_a_nearest_anchor(
    scores: list[float], anchors: list[float]
) -> None:
    """Whatever the anchors' order, equal ones and ties included."""
    values, vq_loss, commit_loss, indices = quantizer(anchors)(torch.tensor(scores))
    for score, value, index in zip(
        scores, values.tolist(), indices.tolist(), strict=True
    ):
        assert index in reference.nearest_eq15(score, anchors)
        assert value == pytest.approx(anchors[index], abs=0)
    expected = reference.squared_norm_eq16(torch.tensor(scores), values)
    assert vq_loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert commit_loss.item() == vq_loss.item()


@EXAMPLES
@given(
    scores=st.lists(numbers, min_size=1, max_size=12),
    anchors=st.lists(numbers, min_size=1, max_size=12),
)
def test_rounding_twice_is_rounding_once(
    scores: list[float], anchors: list[float]
) -> None:
    module = quantizer(anchors)
    once = module(torch.tensor(scores)).values
    assert torch.equal(module(once).values, once)


@EXAMPLES
@given(
    scores=st.lists(numbers, min_size=1, max_size=12),
    anchors=st.lists(numbers, min_size=1, max_size=12),
)
def test_the_gradient_passes_unaltered_and_anchors_learn_from_their_own(
    scores: list[float], anchors: list[float]
) -> None:
    module = quantizer(anchors)
    inputs = torch.tensor(scores, requires_grad=True)
    result = module(inputs)
    weights = torch.linspace(-1, 1, len(scores))
    (result.values * weights).sum().backward(retain_graph=True)
    assert torch.equal(inputs.grad, weights)
    assert not module.anchors.grad.any()
    result.vq_loss.backward()
    idle = torch.ones(len(anchors), dtype=torch.bool)
    idle[result.indices] = False
    assert not module.anchors.grad[idle].any()


@EXAMPLES
@given(
    indices=st.lists(st.integers(0, 6), min_size=1, max_size=40),
)
def test_perplexity_is_between_one_and_the_anchors_in_use(indices: list[int]) -> None:
    usage = anchor_usage(torch.tensor(indices), 7)
    assert usage.sum().item() == pytest.approx(1, abs=1e-6)
    assert 1 - 1e-5 <= perplexity(usage).item() <= len(set(indices)) + 1e-4


@EXAMPLES
@given(x=maps(sizes, batch=2), how=st.sampled_from(['scale', 'residual']))
def test_scaling_is_the_equation_at_every_position(x: torch.Tensor, how: str) -> None:
    a = torch.rand(2, 1, *x.shape[-2:])
    expected = reference.modulate_pixelwise(x, a, how)
    torch.testing.assert_close(modulate(x, a, how), expected, rtol=1e-6, atol=1e-6)


@EXAMPLES
@given(
    x=maps(sizes, batch=2), how=st.sampled_from(MODULATIONS), samples=st.integers(1, 3)
)
def test_a_sample_is_modulated_as_if_alone(
    x: torch.Tensor, how: str, samples: int
) -> None:
    """Leading dimensions of the map broadcast; no sample sees another."""
    module = build_modulation(how, x.shape[1])
    a = torch.rand(samples, 2, 1, *x.shape[-2:])
    together = module.expected(x, a)
    assert together.shape[2] == module.out_channels
    for one, alone in zip(together, a, strict=True):
        expected = module.expected(x, alone)
        torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-5)


@EXAMPLES
@given(
    x=maps(st.just(3), batch=2),
    # What replaces features by noise would draw anew.
    how=st.sampled_from([how for how in MODULATIONS if how != 'replace']),
    samples=st.integers(1, 4),
    quantized=st.booleans(),
)
def test_samples_lie_sample_major_under_their_own_map(
    x: torch.Tensor, how: str, samples: int, quantized: bool
) -> None:
    config = dict(type='VQAnchorQuantizer') if quantized else None
    neck = AIBAttention(3, modulation=how, quantizer=config, train_samples=samples)
    out = neck((x,))
    (drawn,) = out.samples
    (maps_of,) = out.attention
    assert maps_of.samples.shape == (samples, 2, 1, *x.shape[-2:])
    for i, one in enumerate(drawn.unflatten(0, (samples, 2))):
        expected = neck.modulations[0](x, maps_of.samples[i])
        torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-5)
    if quantized:
        anchors = neck.quantizer.anchors[maps_of.indices]
        assert torch.equal(anchors, maps_of.samples)


@EXAMPLES
@given(
    mean=maps(sizes, batch=2),
    log_std=st.floats(-6, 2),
    samples=st.integers(0, 3),
)
def test_draws_are_the_mean_and_std_times_noise(
    mean: torch.Tensor, log_std: float, samples: int
) -> None:
    std = torch.full_like(mean, 10**log_std)
    torch.manual_seed(1)
    drawn = gaussian.sample(mean, std, samples)
    assert drawn.shape == (max(samples, 1), *mean.shape)
    if samples == 0:
        assert torch.equal(drawn[0], mean)
        return
    torch.manual_seed(1)
    noise = torch.randn(samples, *mean.shape)
    torch.testing.assert_close(drawn, mean + std * noise)


@EXAMPLES
@given(mean=maps(sizes, batch=2), log_std=st.floats(-3, 1))
def test_the_divergence_is_eq19_and_never_negative(
    mean: torch.Tensor, log_std: float
) -> None:
    std = torch.full_like(mean, 10**log_std)
    nats = gaussian.kl_to_standard_normal(mean, std).item()
    rows = zip(
        mean.movedim(1, -1).flatten(0, 2),
        std.movedim(1, -1).flatten(0, 2),
        strict=True,
    )
    expected = [reference.kl_eq19(row, deviation) for row, deviation in rows]
    assert nats == pytest.approx(sum(expected) / len(expected), rel=1e-4, abs=1e-5)
    assert nats >= -1e-6
