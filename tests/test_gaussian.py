"""Diagonal Gaussians against torch.distributions, loops, and Monte Carlo."""

import pytest
import torch
from reference import kl_eq19
from torch.distributions import Independent, Normal, kl_divergence

from aib_mm import gaussian


def gaussians(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(shape).double(), torch.rand(shape).double() + 0.1


def test_kl_equals_eq19_term_by_term() -> None:
    mean, std = gaussians(3, 5)
    expected = sum(kl_eq19(m, s) for m, s in zip(mean, std, strict=True)) / 3
    kl = gaussian.kl_to_standard_normal(mean, std)
    assert kl.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('shape', [(4, 6), (2, 6, 3, 5)])
def test_kl_equals_torch_distributions(shape: tuple[int, ...]) -> None:
    mean, std = gaussians(*shape)
    prior = Normal(torch.zeros_like(mean), torch.ones_like(std))
    elements = kl_divergence(Normal(mean, std), prior)
    mean_kl = gaussian.kl_to_standard_normal(mean, std, 'mean')
    sum_kl = gaussian.kl_to_standard_normal(mean, std, 'sum')
    torch.testing.assert_close(mean_kl, elements.mean())
    torch.testing.assert_close(sum_kl, elements.sum(dim=1).mean())


def test_kl_equals_monte_carlo() -> None:
    mean, std = gaussians(1, 4)
    posterior = Independent(Normal(mean, std), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(std)), 1)
    z = gaussian.sample(mean, std, 200_000)
    estimate = (posterior.log_prob(z) - prior.log_prob(z)).mean()
    exact = gaussian.kl_to_standard_normal(mean, std, 'sum')
    assert estimate.item() == pytest.approx(exact.item(), abs=0.02)


def test_kl_of_the_prior_is_zero_and_otherwise_positive() -> None:
    zero = gaussian.kl_to_standard_normal(torch.zeros(2, 3), torch.ones(2, 3))
    assert zero.item() == 0.0
    assert gaussian.kl_to_standard_normal(*gaussians(2, 3)) > 0


def test_kl_gradient() -> None:
    mean, std = (t.requires_grad_() for t in gaussians(2, 3))
    for reduction in gaussian.REDUCTIONS:
        assert torch.autograd.gradcheck(
            lambda m, s, how=reduction: gaussian.kl_to_standard_normal(m, s, how),
            (mean, std),
        )


def test_kl_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match=r"got 'men'; did you mean 'mean'"):
        gaussian.kl_to_standard_normal(torch.zeros(1, 2), torch.ones(1, 2), 'men')
    with pytest.raises(ValueError, match=r'same shape, got \(1, 2\) and \(1, 3\)'):
        gaussian.kl_to_standard_normal(torch.zeros(1, 2), torch.ones(1, 3))


def test_std_is_softplus_of_shifted() -> None:
    raw = torch.tensor([0.0, 5.0, 30.0])
    expected = torch.log1p(torch.exp(raw.double() - 5)).float()
    torch.testing.assert_close(gaussian.softplus_std(raw), expected)


@pytest.mark.parametrize('raw', [-1e4, -100.0, 1e4])
def test_extreme_predictions_keep_the_divergence_finite(raw: float) -> None:
    parameters = torch.full((1, 4), raw, requires_grad=True)
    mean, std = gaussian.split_mean_std(parameters)
    kl = gaussian.kl_to_standard_normal(mean, std)
    kl.backward()
    assert kl.isfinite()
    assert parameters.grad.isfinite().all()


@pytest.mark.parametrize('raw', [-9.0, -30.0, -60.0])
def test_a_std_that_sank_is_pulled_back(raw: float) -> None:
    raw_std = torch.full((1, 1), raw, requires_grad=True)
    std = gaussian.softplus_std(raw_std)
    gaussian.kl_to_standard_normal(torch.zeros(1, 1), std, 'sum').backward()
    assert raw_std.grad.item() == pytest.approx(-1, rel=1e-3)


def test_split_takes_the_first_half_as_mean_in_float32() -> None:
    parameters = torch.randn(2, 6, 3, 3).bfloat16()
    mean, std = gaussian.split_mean_std(parameters)
    assert mean.dtype == std.dtype == torch.float32
    torch.testing.assert_close(mean, parameters[:, :3].float())
    torch.testing.assert_close(std, gaussian.softplus_std(parameters[:, 3:]))


def test_split_refuses_an_odd_number() -> None:
    with pytest.raises(ValueError, match='even number of channels, got 5'):
        gaussian.split_mean_std(torch.zeros(2, 5))


def test_samples_have_the_moments_and_pass_gradients() -> None:
    mean = torch.tensor([1.0, -2.0], requires_grad=True)
    std = torch.tensor([0.5, 2.0], requires_grad=True)
    z = gaussian.sample(mean, std, 100_000)
    torch.testing.assert_close(z.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), std, atol=0.03, rtol=0)
    z.mean(0).sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(2))
    # d z / d std is the noise itself, whose mean is the standardised sample mean.
    torch.testing.assert_close(std.grad, ((z - mean) / std).mean(0).detach())


def test_no_samples_is_the_mean_without_randomness() -> None:
    mean, std = gaussians(3, 4)
    state = torch.get_rng_state()
    assert torch.equal(gaussian.sample(mean, std, 0), mean[None])
    assert torch.equal(torch.get_rng_state(), state)
