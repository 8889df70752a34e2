"""The modulations against loops, their limits, and their messages."""

import pytest
import reference
import torch

from aib_mm.modulation import MODULATIONS, build_modulation, modulate


@pytest.mark.parametrize('how', ['scale', 'residual'])
def test_scaling_equals_the_pixelwise_loop(how: str) -> None:
    x, a = torch.randn(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    expected = reference.modulate_pixelwise(x, a, how)
    torch.testing.assert_close(modulate(x, a, how), expected)


@pytest.mark.parametrize('how', ['scale', 'residual'])
def test_scaling_gradient(how: str) -> None:
    x = torch.randn(2, 3, 2, 2, dtype=torch.double, requires_grad=True)
    a = torch.rand(2, 1, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, a: modulate(x, a, how), (x, a))


def test_attention_of_zeros_passes_features_under_residual_and_stops_them_under_scale():
    x, zeros = torch.randn(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    assert torch.equal(modulate(x, zeros, 'residual'), x)
    assert torch.equal(modulate(x, zeros, 'scale'), torch.zeros_like(x))


def test_bias_adds_and_concat_appends_the_lifted_map() -> None:
    x, a = torch.randn(2, 3, 4, 4), torch.rand(2, 1, 4, 4)
    bias, concat = build_modulation('bias', 3), build_modulation('concat', 3)
    lifted = bias.lift(a).sigmoid()
    assert lifted.shape == x.shape
    torch.testing.assert_close(bias(x, a), x + lifted)
    concat.load_state_dict(bias.state_dict())
    torch.testing.assert_close(concat(x, a), torch.cat([x, lifted], dim=1))


@pytest.mark.parametrize('how', MODULATIONS)
def test_several_maps_equal_one_at_a_time(how: str) -> None:
    modulation = build_modulation(how, 3)
    x, a = torch.randn(2, 3, 4, 4), torch.rand(5, 2, 1, 4, 4)
    assert modulation(x, a).shape == (5, 2, modulation.out_channels, 4, 4)
    together = modulation.expected(x, a)
    each = [modulation.expected(x, one) for one in a]
    torch.testing.assert_close(together, torch.stack(each))


def test_half_precision_features_stay_so() -> None:
    x, a = torch.randn(1, 3, 2, 2).bfloat16(), torch.rand(1, 1, 2, 2)
    for how in MODULATIONS:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert build_modulation(how, 3)(x, a).dtype == torch.bfloat16


def test_unknown_modulation_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="got 'residul'; did you mean 'residual'"):
        build_modulation('residul', 3)
    with pytest.raises(ValueError, match=r"modulation must be one of .* got 'add'"):
        modulate(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 'add')
    with pytest.raises(ValueError, match='ConcatModulation'):
        modulate(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 'concat')
