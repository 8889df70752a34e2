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
