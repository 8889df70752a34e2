"""AIBLoss, both divergences, and the encoders they judge."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from aib_mm import gaussian
from aib_mm.adversarial import AdversarialKL
from aib_mm.encoders import GaussianEncoder, Latent, LatentDecoder, NoiseEncoder
from aib_mm.losses import AIBLoss, GaussianKL


def latent(batch: int = 4, dims: int = 6, samples: int = 2) -> Latent:
    mean = torch.randn(batch, dims, requires_grad=True)
    std = (torch.rand(batch, dims) + 0.1).requires_grad_()
    return Latent(gaussian.sample(mean, std, samples), mean, std)


def quantization() -> dict[str, torch.Tensor]:
    return dict(vq_loss=torch.tensor(2.0), commit_loss=torch.tensor(3.0))


def test_defaults_are_the_papers_weights() -> None:
    z = latent()
    losses = AIBLoss()(z, quantization())
    kl = gaussian.kl_to_standard_normal(z.mean, z.std)
    torch.testing.assert_close(losses['loss_kl'], 0.01 * kl)
    assert losses['loss_vq'].item() == pytest.approx(0.4 * 2)
    assert losses['loss_cmt'].item() == pytest.approx(0.1 * 3)
    assert set(losses) == {'loss_kl', 'loss_vq', 'loss_cmt', 'kl_nats'}


def test_monitor_is_the_whole_latents_divergence_and_detached() -> None:
    z = latent()
    losses = AIBLoss()(z)
    expected = gaussian.kl_to_standard_normal(z.mean, z.std, 'sum')
    torch.testing.assert_close(losses['kl_nats'], expected.detach())
    assert not losses['kl_nats'].requires_grad
    assert 'loss_vq' not in losses


def test_zero_weights_leave_the_hosts_loss() -> None:
    losses = AIBLoss(beta=0, vq_weight=0, commit_weight=0)(latent(), quantization())
    total = sum(value for name, value in losses.items() if 'loss' in name)
    assert total.item() == 0


def test_released_conventions_of_the_divergence() -> None:
    z = latent()
    ours = GaussianKL(reduction='sum', units='bits', kl_std='exponential')(z)
    expected = gaussian.kl_to_standard_normal(z.mean, z.std.exp(), 'sum') / math.log(2)
    torch.testing.assert_close(ours['loss_kl'], expected)


def test_released_std_pulls_the_noise_to_zero_and_the_papers_to_one() -> None:
    for kl_std, sign in (('sampling', -1), ('exponential', 1)):
        z = Latent(torch.zeros(1, 1, 3), torch.zeros(1, 3), torch.full((1, 3), 0.3))
        z.std.requires_grad_()
        GaussianKL(kl_std=kl_std)(z)['loss_kl'].backward()
        assert (z.std.grad.sign() == sign).all(), kl_std


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: AIBLoss(beta=-1), 'beta must be finite and >= 0, got -1'),
        (lambda: AIBLoss(vq_weight=float('nan')), 'vq_weight must be finite'),
        (lambda: GaussianKL(units='bit'), "got 'bit'; did you mean 'bits'"),
        (lambda: GaussianKL(kl_std='exp'), "kl_std must be one of .* got 'exp'"),
        (lambda: AdversarialKL(0), 'latent_dim must be an integer >= 1, got 0'),
        (lambda: AdversarialKL(4, dropout=1.0), r'dropout must be in \[0, 1\), got 1'),
        (lambda: GaussianEncoder(latent_dim=4), 'cannot tell the channels'),
        (lambda: NoiseEncoder(latent_dim=0), 'latent_dim must be an integer >= 1'),
    ],
)
def test_bad_arguments(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_impossible_combinations_are_refused() -> None:
    noisy = NoiseEncoder(latent_dim=4, in_features=3)
    with pytest.raises(ValueError, match=r'GaussianKL needs .* NoiseEncoder'):
        AIBLoss().check_encoder(noisy)
    narrow = AIBLoss(kl=dict(type='AdversarialKL', latent_dim=8))
    with pytest.raises(
        ValueError, match=r'KL\(latent_dim=8\) cannot judge .* latent_dim=4'
    ):
        narrow.check_encoder(noisy)
    AIBLoss(kl=dict(type='AdversarialKL', latent_dim=4)).check_encoder(noisy)


# --- adversarial ------------------------------------------------------------------


def bernoulli_terms(kl: AdversarialKL, prior: torch.Tensor, z: torch.Tensor):
    """Eq. 20's two expectations, with the probabilities spelt out."""
    real = torch.sigmoid(kl.discriminator(prior).double())
    fake = torch.sigmoid(kl.discriminator(z).double())
    return real.log().mean(), (1 - fake).log().mean()


def test_adversarial_terms_equal_eq20() -> None:
    kl = AdversarialKL(6, dropout=0.0)
    z = latent()
    torch.manual_seed(5)
    terms = kl(z)
    torch.manual_seed(5)
    flat = z.samples.reshape(-1, 6)
    on_prior, on_latent = bernoulli_terms(kl, torch.randn_like(flat), flat)
    assert terms['loss_kl'].item() == pytest.approx(on_latent.item(), rel=1e-5)
    expected = -(on_prior + on_latent).item()
    assert terms['loss_disc'].item() == pytest.approx(expected, rel=1e-5)


def test_each_player_gets_its_own_gradient_and_no_other() -> None:
    kl = AdversarialKL(6)
    z = latent()
    kl(z)['loss_kl'].backward(retain_graph=True)
    assert all(p.grad is None for p in kl.parameters())
    assert z.mean.grad.abs().sum() > 0
    z.mean.grad = None
    kl(z)['loss_disc'].backward()
    assert z.mean.grad is None
    assert all(p.grad.abs().sum() > 0 for p in kl.parameters())


@pytest.mark.parametrize('saturating', [True, False])
def test_one_step_moves_both_players_as_eq20_asks(saturating: bool) -> None:
    torch.manual_seed(2)
    kl = AdversarialKL(6, dropout=0.0, saturating=saturating)
    loss = AIBLoss(beta=1.0)
    loss.kl = kl
    z = torch.nn.Parameter(torch.randn(256, 6) + 1.0)
    prior = torch.randn(256, 6)
    players = dict(discriminator=list(kl.parameters()), encoder=[z])
    for player, parameters in players.items():
        saved = [p.detach().clone() for p in parameters]
        before = bernoulli_terms(kl, prior, z)
        optimizer = torch.optim.SGD(parameters, lr=0.05)
        losses = loss(Latent(z[None]))
        kl.zero_grad()
        z.grad = None
        (losses['loss_kl'] + losses['loss_disc']).backward()
        optimizer.step()
        after = bernoulli_terms(kl, prior, z)
        if player == 'discriminator':
            assert sum(after) > sum(before)
        else:
            assert after[1] < before[1]
        for parameter, value in zip(parameters, saved, strict=True):
            parameter.data.copy_(value)


def test_it_also_judges_a_latent_per_position() -> None:
    kl = AdversarialKL(6, dropout=0.0)
    maps = torch.randn(2, 3, 6, 4, 5)
    torch.manual_seed(5)
    per_position = kl(Latent(maps))
    torch.manual_seed(5)
    flat = kl(Latent(maps.permute(0, 1, 3, 4, 2).reshape(1, -1, 6)))
    torch.testing.assert_close(per_position, flat)


def test_extreme_latents_give_finite_terms() -> None:
    terms = AdversarialKL(6)(Latent(torch.full((1, 4, 6), 1e4)))
    assert all(value.isfinite() for value in terms.values())


def test_divergences_are_float32_under_autocast() -> None:
    z = latent()
    half = Latent(z.samples.bfloat16(), z.mean.bfloat16(), z.std.bfloat16())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for kl in (GaussianKL(), AdversarialKL(6)):
            assert kl(half)['loss_kl'].dtype == torch.float32


def test_double_precision_stays_double() -> None:
    """Against Eq. 19 written out, to what float32 could not give."""
    mean = torch.randn(4, 6, dtype=torch.float64)
    std = torch.rand(4, 6, dtype=torch.float64) + 0.1
    z = Latent(gaussian.sample(mean, std, 2), mean, std)
    expected = sum(
        (m * m + s * s - 1) / 2 - math.log(s)
        for m, s in zip(mean.flatten().tolist(), std.flatten().tolist(), strict=True)
    )
    losses = AIBLoss(beta=1)(z)
    assert losses['loss_kl'].dtype == losses['kl_nats'].dtype == torch.float64
    assert losses['loss_kl'].item() == pytest.approx(expected / 24, rel=1e-14)
    assert losses['kl_nats'].item() == pytest.approx(expected / 4, rel=1e-14)
    terms = AdversarialKL(6).double()(z)
    assert {value.dtype for value in terms.values()} == {torch.float64}
    encoder = NoiseEncoder(in_features=3, latent_dim=2).double()
    features = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert encoder(features, 1).samples.dtype == torch.float64


def test_a_trained_discriminator_tells_latents_from_the_prior() -> None:
    kl = AdversarialKL(4, dropout=0.0)
    optimizer = torch.optim.Adam(kl.parameters(), 1e-2)
    far = Latent(torch.randn(1, 256, 4) * 0.1 + 2)
    for _ in range(100):
        optimizer.zero_grad()
        terms = kl(far)
        terms['loss_disc'].backward()
        optimizer.step()
    assert terms['disc_prior'] > 0.9
    assert terms['disc_latent'] < 0.1


# --- encoders and decoder ---------------------------------------------------------


def test_gaussian_encoder_is_pooling_fc_and_split() -> None:
    encoder = GaussianEncoder(latent_dim=5, in_features=3)
    x = torch.randn(2, 3, 4, 4)
    z = encoder(x, 7)
    parameters = encoder.fc(x.mean((2, 3)))
    torch.testing.assert_close(z.mean, parameters[:, :5])
    torch.testing.assert_close(z.std, F.softplus(parameters[:, 5:] - 5))
    assert z.samples.shape == (7, 2, 5)
    assert torch.equal(encoder(x, 0).samples[0], z.mean)


def test_encoders_take_pooled_features_too() -> None:
    encoder = GaussianEncoder(latent_dim=5, in_features=3, std_shift=0.0)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(encoder(x.mean((2, 3)), 0).mean, encoder(x, 0).mean)
    std = F.softplus(encoder.fc(x.mean((2, 3)))[:, 5:])
    torch.testing.assert_close(encoder(x, 0).std, std)


def test_noise_encoder_gives_one_latent_without_a_density() -> None:
    encoder = NoiseEncoder(latent_dim=5, in_features=3)
    x = torch.randn(2, 3, 4, 4)
    z = encoder(x, 1)
    torch.testing.assert_close(z.samples, encoder.fc(x.mean((2, 3)))[None])
    assert z.mean is None
    assert z.std is None
    assert 'kl_nats' not in AIBLoss(kl=dict(type='AdversarialKL', latent_dim=5))(z)


@pytest.mark.parametrize('hidden', [True, False])
def test_decoder_is_table_1s(hidden: bool) -> None:
    decoder = LatentDecoder(num_classes=3, latent_dim=5, hidden=hidden)
    z = torch.randn(2, 4, 5)
    h = decoder.layers[0](z) if hidden else z
    expected = decoder.layers[-1](h.relu())
    torch.testing.assert_close(decoder(z), expected)
    assert decoder(z).shape == (2, 4, 3)


def test_parts_are_registered_in_the_root() -> None:
    for name in ('AIBLoss', 'GaussianKL', 'GaussianEncoder', 'VQAnchorQuantizer'):
        assert MODELS.get(name) is MODELS.get(f'aib_mm.{name}')
