"""The quantiser against loops: nearest anchors, ties, crossings, both gradients."""

import math

import pytest
import reference
import torch

from aib_mm.quantizer import (
    VQAnchorQuantizer,
    anchor_usage,
    decision_bounds,
    nearest_anchor,
    perplexity,
)


def with_anchors(values: list[float], **kwargs) -> VQAnchorQuantizer:
    quantizer = VQAnchorQuantizer(num_anchors=len(values), **kwargs)
    quantizer.anchors.data = torch.tensor(values)
    return quantizer


def assert_nearest(scores: torch.Tensor, anchors: torch.Tensor) -> None:
    indices = nearest_anchor(scores, anchors)
    values = anchors.double().tolist()
    for score, index in zip(
        scores.double().flatten().tolist(), indices.flatten().tolist(), strict=True
    ):
        assert index in reference.nearest_eq15(score, values)


@pytest.mark.parametrize('num_anchors', [1, 2, 3, 20, 50, 4096])
def test_every_score_takes_its_nearest_anchor(num_anchors: int) -> None:
    assert_nearest(torch.rand(60) * 1.4 - 0.2, torch.rand(num_anchors))


def test_scores_around_every_decision_bound() -> None:
    anchors = torch.rand(20).sort().values
    bounds = decision_bounds(anchors)
    above = torch.nextafter(bounds, torch.ones_like(bounds))
    below = torch.nextafter(bounds, torch.zeros_like(bounds))
    assert_nearest(torch.cat([bounds, above, below]), anchors)


def test_exactly_between_two_takes_one_of_them() -> None:
    indices = nearest_anchor(torch.tensor([0.25, 0.75]), torch.tensor([0.0, 0.5, 1.0]))
    assert indices[0] in (0, 1)
    assert indices[1] in (1, 2)


def test_below_the_first_and_above_the_last() -> None:
    indices = nearest_anchor(torch.tensor([-3.0, 7.0]), torch.tensor([0.1, 0.4, 0.9]))
    assert indices.tolist() == [0, 2]


def test_crossed_anchors_keep_their_own_indices() -> None:
    quantizer = with_anchors([0.9, 0.1, 0.5])
    result = quantizer(torch.tensor([[0.0, 0.45, 1.0]]))
    assert result.indices.tolist() == [[1, 2, 0]]
    torch.testing.assert_close(result.values, torch.tensor([[0.1, 0.5, 0.9]]))


def test_equal_anchors_are_still_nearest() -> None:
    assert_nearest(torch.rand(50), torch.tensor([0.3, 0.3, 0.8, 0.3]))


def test_values_and_losses_equal_the_equations() -> None:
    quantizer = VQAnchorQuantizer(7)
    scores = torch.rand(2, 3, 1, 4, 5)
    values, vq_loss, commit_loss, indices = quantizer(scores)
    assert values.shape == indices.shape == scores.shape
    torch.testing.assert_close(values, quantizer.anchors[indices])
    expected = reference.squared_norm_eq16(scores, values)
    assert vq_loss.item() == pytest.approx(expected, rel=1e-5)
    assert commit_loss.item() == pytest.approx(expected, rel=1e-5)


def test_sum_reduction_is_the_squared_norm_of_each_map() -> None:
    scores = torch.rand(6, 1, 4, 5)
    mean = with_anchors([0.2, 0.7])(scores)
    summed = with_anchors([0.2, 0.7], reduction='sum')(scores)
    torch.testing.assert_close(summed.vq_loss, mean.vq_loss * 20)
    torch.testing.assert_close(summed.commit_loss, mean.commit_loss * 20)


def test_task_gradient_passes_to_the_scores_unaltered() -> None:
    quantizer = VQAnchorQuantizer(5)
    scores = torch.rand(2, 1, 3, 3, requires_grad=True)
    gradient = torch.randn(2, 1, 3, 3)
    quantizer(scores).values.backward(gradient)
    assert torch.equal(scores.grad, gradient)
    assert quantizer.anchors.grad.abs().max() == 0


def test_gradients_equal_plain_autograd() -> None:
    quantizer = VQAnchorQuantizer(5).double()
    scores = torch.rand(40, dtype=torch.double, requires_grad=True)
    values, vq_loss, commit_loss, indices = quantizer(scores)
    (3 * vq_loss + 0.5 * commit_loss + values.sum()).backward()

    anchors = quantizer.anchors.detach().clone().requires_grad_()
    plain = scores.detach().clone().requires_grad_()
    taken = anchors[indices]
    through = plain + (taken - plain).detach()
    vq = (plain.detach() - taken).square().mean()
    commit = (plain - taken.detach()).square().mean()
    (3 * vq + 0.5 * commit + through.sum()).backward()
    torch.testing.assert_close(scores.grad, plain.grad)
    torch.testing.assert_close(quantizer.anchors.grad, anchors.grad)


def test_an_anchor_nobody_picks_gets_no_pull_and_the_others_do() -> None:
    quantizer = with_anchors([0.0, 5.0, 1.0])
    quantizer(torch.rand(64)).vq_loss.backward()
    assert quantizer.anchors.grad[1] == 0
    assert (quantizer.anchors.grad[[0, 2]] != 0).all()


def test_vq_steps_move_the_anchors_to_the_scores_means() -> None:
    quantizer = with_anchors([0.4, 0.6])
    scores = torch.tensor([0.1, 0.2, 0.7, 0.9])
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        quantizer(scores).vq_loss.backward()
        optimizer.step()
    torch.testing.assert_close(quantizer.anchors.data, torch.tensor([0.15, 0.8]))


def test_a_single_anchor_gives_a_constant_map() -> None:
    values = VQAnchorQuantizer(1)(torch.rand(2, 1, 4, 4)).values
    assert torch.equal(values, torch.full_like(values, 0.5))


def test_anchors_start_evenly_over_the_range() -> None:
    quantizer = VQAnchorQuantizer(5, value_range=(-1.0, 1.0))
    assert quantizer.anchors.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_half_precision_is_rounded_in_float32() -> None:
    with torch.autocast('cpu', dtype=torch.bfloat16):
        result = VQAnchorQuantizer(20)(torch.rand(8, 8).bfloat16())
    assert result.values.dtype == result.vq_loss.dtype == torch.float32


def test_on_each_device(device: str) -> None:
    quantizer = VQAnchorQuantizer(9)
    scores = torch.rand(2, 1, 8, 8)
    expected = quantizer(scores)
    result = quantizer.to(device)(scores.to(device))
    assert torch.equal(result.indices.cpu(), expected.indices)
    torch.testing.assert_close(result.vq_loss.cpu(), expected.vq_loss)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_anchors=0), r'num_anchors must be an integer >= 1, got 0'),
        (dict(num_anchors=2.5), r'num_anchors must be an integer >= 1, got 2\.5'),
        (dict(num_anchors=True), r'num_anchors must be an integer >= 1, got True'),
        (dict(value_range=(1, 0)), r'value_range must be \(low, high\), got \(1, 0\)'),
        (dict(value_range=(0, math.inf)), r'must be two finite numbers, got \(0, inf'),
        (dict(value_range=0.5), r'value_range must be two finite numbers, got 0\.5'),
        (dict(reduction='avg'), r"reduction must be one of .* got 'avg'"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VQAnchorQuantizer(**arguments)


def test_a_score_that_is_no_number_stays_visible() -> None:
    values = VQAnchorQuantizer(4)(torch.tensor([0.2, float('nan')])).values
    assert values.isnan().tolist() == [False, True]


def test_usage_and_perplexity() -> None:
    indices = torch.tensor([[0, 0, 0, 2], [2, 0, 0, 0]])
    usage = anchor_usage(indices, 4)
    assert usage.tolist() == [0.75, 0.0, 0.25, 0.0]
    expected = reference.perplexity([6, 0, 2, 0])
    assert perplexity(usage).item() == pytest.approx(expected, rel=1e-6)
    uniform = perplexity(torch.full((8,), 1 / 8))
    assert math.isclose(uniform.item(), 8, rel_tol=1e-6)


def searched(scores: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Indices by a binary search among midpoints that no rounding has touched."""
    ordered, order = anchors.sort(stable=True)
    exact = ordered.double() / 2
    # Halves of float32 numbers of one magnitude: their float64 sum is exact.
    return order[torch.bucketize(scores.double(), exact[1:] + exact[:-1])]


@pytest.mark.parametrize('num_anchors', [1, 2, 3, 20, 50, 400, 4096])
def test_equals_a_search_on_many_scores(num_anchors: int) -> None:
    """Anchors in disorder, a map of each kind of spacing."""
    count = 2**17 + 17
    scores = torch.rand(count) * 1.2 - 0.1
    even = torch.linspace(0, 1, num_anchors)
    crowded = torch.rand(num_anchors) ** 8 + 1e-3
    for anchors in (even, crowded, torch.rand(num_anchors)):
        on_bounds = decision_bounds(anchors.sort().values)[:count]
        scores[: len(on_bounds)] = on_bounds
        indices = nearest_anchor(scores, anchors)
        assert torch.equal(indices, searched(scores, anchors))


def assorted(count: int) -> torch.Tensor:
    """Numbers of either sign: ordinary, small and large ones, denormal ones, zero."""
    magnitudes = 10 ** (torch.rand(count) * 45 - 38)
    kinds = [torch.rand(count), magnitudes, torch.rand(count) * 2.0**-127]
    chosen = torch.stack([*kinds, torch.zeros(count)])
    chosen = chosen[torch.randint(4, (count,)), torch.arange(count)]
    return chosen * (torch.randint(2, (count,)) * 2 - 1)


@pytest.mark.parametrize('seed', range(10))
def test_a_million_random_cases(seed: int) -> None:
    """Ten times 10⁵ scores: values and gradients by all distances, in float64."""
    torch.manual_seed(seed)
    anchors = assorted(20)
    anchors[7] = anchors[3]
    scores = torch.cat([assorted(10**5 - 19), decision_bounds(anchors.sort().values)])
    assert (scores.abs().sub(2.0**-128).abs() < 2.0**-128).any()  # denormal
    quantizer = with_anchors(anchors.tolist())
    values, vq_loss, commit_loss, indices = quantizer(scores.requires_grad_())
    given = torch.randn(len(scores))
    torch.autograd.backward((values, vq_loss, 0.5 * commit_loss), (given, None, None))

    distances = (scores.detach().double()[:, None] - anchors.double()).abs()
    error = scores.detach().double() - values.detach().double()
    assert torch.equal(error.abs(), distances.min(dim=1).values)
    assert torch.equal(values, anchors[indices])
    assert vq_loss.item() == pytest.approx(error.square().mean().item(), rel=1e-5)
    of_scores = given.double() + error / len(scores)
    torch.testing.assert_close(scores.grad.double(), of_scores, rtol=1e-5, atol=1e-6)
    slope = 2 / len(scores)
    of_anchors = torch.zeros(20).double().index_add(0, indices, -slope * error)
    bound = torch.zeros(20).double().index_add(0, indices, slope * error.abs())
    bound = 1e-4 * bound + 2.0**-146  # float32 ends at 2⁻¹⁴⁹
    assert ((quantizer.anchors.grad - of_anchors).abs() <= bound).all()


@pytest.mark.parametrize('exponent', [-45, -40, -20, 0, 20, 38])
def test_exact_at_every_magnitude(exponent: int) -> None:
    """Denormals, and numbers whose sums and distances overflow float32."""
    anchors = torch.randn(9).clamp(-3, 3).double() * 10.0**exponent
    scores = torch.randn(200).clamp(-3, 3).double() * 10.0**exponent
    assert_nearest(scores.float(), anchors.float())


def test_exact_where_float64_rounds_the_midpoint() -> None:
    """Half of 1 - 1e-30 is 0.5 in float64, but 0.5 is nearer to 1 than to -1e-30."""
    scores = torch.tensor([0.5])
    assert nearest_anchor(scores, torch.tensor([-1e-30, 1.0])).tolist() == [1]
    assert nearest_anchor(scores, torch.tensor([1e-30, 1.0])).tolist() == [0]


@pytest.mark.parametrize('anchors', [[0.4] * 5, [-3.4e38, 3.4e38], [0.0, 1e-45]])
def test_anchors_without_a_usable_range(anchors: list[float]) -> None:
    scores = torch.tensor([-3.4e38, -1.0, 0.0, 1e-45, 0.4, 3.4e38])
    assert_nearest(scores, torch.tensor(anchors))


@pytest.mark.parametrize('score', [math.inf, -math.inf, math.nan])
def test_a_score_that_is_not_finite_shows_in_values_and_losses(score: float) -> None:
    scores = torch.tensor([0.2, score, 0.7])
    values, vq_loss, commit_loss, _ = VQAnchorQuantizer(4)(scores)
    assert values.isnan().tolist() == [False, True, False]
    assert vq_loss.isnan() and commit_loss.isnan()


def test_scores_in_any_layout() -> None:
    scores = torch.rand(4, 6, 5).permute(2, 0, 1)
    anchors = torch.tensor([0.1, 0.8])
    indices = nearest_anchor(scores, anchors)
    assert torch.equal(indices, nearest_anchor(scores.contiguous(), anchors))
    assert nearest_anchor(torch.rand(0, 1, 4, 4), torch.rand(3)).shape == (0, 1, 4, 4)


def test_commitment_gradient_is_that_of_finite_differences() -> None:
    quantizer = VQAnchorQuantizer(4).double()
    scores = torch.tensor([0.05, 0.3, 0.9], dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: quantizer(s).commit_loss, (scores,))


def traced_look_up(scores: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Indices as a compiler gets them, without any operation of the compiler's own."""
    return torch.compile(nearest_anchor, backend='eager', fullgraph=True)(
        scores, anchors
    )


@pytest.mark.parametrize('seed', range(3))
def test_the_traced_form_takes_the_same_anchors(seed: int) -> None:
    torch.manual_seed(seed)
    anchors = assorted(20)
    bounds = decision_bounds(anchors.sort().values)
    above = torch.nextafter(bounds, torch.tensor(torch.inf))
    scores = torch.cat([assorted(10**4), bounds, above])
    # Of equal anchors, such as the two zeros, ONNX's sort puts any first.
    taken = anchors[traced_look_up(scores, anchors)]
    assert torch.equal(taken, anchors[nearest_anchor(scores, anchors)])


def test_the_traced_form_is_exact_where_float64_rounds_the_midpoint() -> None:
    scores = torch.tensor([0.5])
    assert traced_look_up(scores, torch.tensor([-1e-30, 1.0])).tolist() == [1]
    assert traced_look_up(scores, torch.tensor([1e-30, 1.0])).tolist() == [0]
