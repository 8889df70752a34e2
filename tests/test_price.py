"""The price on the map: ``replace``, nats against distributions, limits, schedule."""

import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from aib_mm.attention import AIBAttention
from aib_mm.encoders import Latent
from aib_mm.hooks import AIBLossHook
from aib_mm.losses import AIBLoss, NeckLoss
from aib_mm.modulation import BiasModulation, ReplaceModulation
from aib_mm.plugin_layer import AIBLayer

CHANNELS = 4


def features(levels: int = 1) -> tuple[Tensor, ...]:
    """Features with a mean and a std of their own in each channel."""
    scale = torch.arange(1.0, CHANNELS + 1)[:, None, None]
    return tuple(
        scale * torch.randn(2, CHANNELS, 6, 5) + scale + level
        for level in range(levels)
    )


def observed(x: Tensor) -> ReplaceModulation:
    modulation = ReplaceModulation(CHANNELS)
    modulation.observe(x)
    return modulation


# --- values ------------------------------------------------------------------------


def test_the_statistics_are_those_of_the_features() -> None:
    (x,) = features()
    modulation = observed(x)
    channels = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(modulation.running_mean, channels.mean(1))
    torch.testing.assert_close(modulation.running_std, channels.std(1, correction=0))
    (other,) = features()
    modulation.observe(other)
    expected = 0.9 * channels.mean(1) + 0.1 * other.transpose(0, 1).flatten(1).mean(1)
    torch.testing.assert_close(modulation.running_mean, expected)


def test_the_statistics_are_those_of_all_processes(monkeypatch) -> None:
    """Of all their images, also where one has none or fewer."""
    x = features()[0] * 0.01 + 100
    parts = [x[:1, :, :4], x[:1, :, 4:], x[1:], x[:0]]
    sums: list[Tensor] = []
    monkeypatch.setattr('aib_mm.modulation.get_world_size', lambda: len(parts))
    monkeypatch.setattr('aib_mm.modulation.all_reduce', sums.append)
    for part in parts:
        observed(part)
    total = torch.stack(sums).sum(dim=0)
    monkeypatch.setattr('aib_mm.modulation.all_reduce', lambda own: own.copy_(total))
    channels = x.transpose(0, 1).flatten(1)
    for part in parts:
        found = observed(part)
        torch.testing.assert_close(found.running_mean, channels.mean(1))
        std = channels.std(1, correction=0)
        torch.testing.assert_close(found.running_std, std, rtol=1e-4, atol=0)


@pytest.mark.parametrize('processes', [1, 2])
def test_a_batch_that_no_process_has_changes_nothing(monkeypatch, processes) -> None:
    monkeypatch.setattr('aib_mm.modulation.get_world_size', lambda: processes)
    monkeypatch.setattr('aib_mm.modulation.all_reduce', lambda sums: None)
    x = features()[0]
    of_one, of_both = observed(x), observed(x)
    of_both.observe(x[:0])
    for name, buffer in of_one.named_buffers():
        assert torch.equal(of_both.get_buffer(name), buffer), name
    later = observed(x[:0])  # the first batch still counts whole
    later.observe(x)
    assert torch.equal(later.running_mean, of_one.running_mean)


def test_features_are_mixed_with_noise_of_their_own_statistics() -> None:
    (x,) = features()
    modulation = observed(x)
    a = torch.full((1, 1, 1, 1), 0.25).expand(2, 1, 6, 5)
    draws = torch.stack([modulation(x, a) for _ in range(4000)])
    mean = modulation.running_mean[:, None, None]
    std = modulation.running_std[:, None, None]
    torch.testing.assert_close(
        draws.mean(0), mean + 0.25 * (x - mean), atol=0.3, rtol=0
    )
    spread = (0.75 * std).expand_as(x)
    torch.testing.assert_close(draws.std(0), spread, atol=0, rtol=0.1)
    torch.testing.assert_close(modulation.expected(x, a), mean + 0.25 * (x - mean))


def test_nats_are_the_divergence_of_torch_distributions() -> None:
    (x,) = features()
    modulation = observed(x)
    a = torch.rand(2, 1, 6, 5) * 0.998
    mean, std = modulation.running_mean, modulation.running_std
    normed = (x - mean[:, None, None]) / std[:, None, None]
    passed = Normal(a * normed, (1 - a).expand_as(normed))
    expected = kl_divergence(passed, Normal(0.0, 1.0)).mean(dim=1, keepdim=True)
    torch.testing.assert_close(modulation.nats(x, a), expected)


def test_nats_against_monte_carlo() -> None:
    x = torch.tensor([0.5, -1.0]).view(1, 2, 1, 1)
    modulation = ReplaceModulation(2)  # mean 0, std 1
    a = torch.full((1, 1, 1, 1), 0.6)
    z = torch.stack([modulation(x, a) for _ in range(20_000)]).double()
    inside, prior = Normal(0.6 * x.double(), 0.4), Normal(0.0, 1.0)
    ratio = inside.log_prob(z) - prior.log_prob(z)
    error = 4 * (ratio.mean(2).std() / math.sqrt(20_000)).item()
    assert modulation.nats(x, a).item() == pytest.approx(ratio.mean().item(), abs=error)


def test_a_prior_prices_any_modulation() -> None:
    neck = AIBAttention(CHANNELS, prior_std=0.2, quantizer=None)
    out = neck(features(2))
    expected = [
        kl_divergence(Normal(maps.mean, maps.std), Normal(0.0, 0.2))
        for maps in out.attention
    ]
    for maps, nats in zip(out.attention, expected, strict=True):
        torch.testing.assert_close(maps.nats, nats)
    total = torch.stack([nats.mean() for nats in expected]).mean()
    torch.testing.assert_close(out.losses['map_nats'], total)


@pytest.mark.parametrize('map_level', [None, -1])
@pytest.mark.parametrize('quantizer', [None, dict(type='VQAnchorQuantizer')])
def test_each_level_has_statistics_and_nats_of_its_own(quantizer, map_level) -> None:
    neck = AIBAttention(
        CHANNELS,
        modulation='replace',
        quantizer=quantizer,
        map_level=map_level,
        train_samples=2,
    )
    feats = features(3)
    out = neck(feats)
    for level, x in enumerate(feats):
        modulation = neck.modulations[level]
        torch.testing.assert_close(modulation.running_mean, x.mean((0, 2, 3)))
        maps = out.attention[level]
        nats = torch.stack([modulation.nats(x, a) for a in maps.samples]).mean(0)
        torch.testing.assert_close(maps.nats, nats * x.shape[1])
    means = torch.stack(
        [
            maps.nats.mean() / x.shape[1]
            for maps, x in zip(out.attention, feats, strict=True)
        ]
    )
    torch.testing.assert_close(out.losses['map_nats'], means.mean())


# --- limits ------------------------------------------------------------------------


def test_a_score_of_zero_passes_no_feature_and_no_nats() -> None:
    (x,) = features()
    modulation, a = observed(x), torch.zeros(2, 1, 6, 5)
    assert modulation.nats(x, a).abs().max() == 0
    other, passed = torch.randn_like(x), []
    for feats in (x, other):
        torch.manual_seed(0)
        passed.append(modulation(feats, a))
    assert torch.equal(*passed)


def test_a_score_of_one_is_the_vanilla_model_and_costs_finitely() -> None:
    (x,) = features()
    modulation, a = observed(x), torch.full((2, 1, 6, 5), 1.5)
    spread = modulation.running_std[:, None, None]
    assert ((modulation(x, a) - x).abs() <= 0.01 * spread + 0.002 * x.abs()).all()
    assert modulation.nats(x, a).isfinite().all()


def test_no_score_is_rounded_to_a_certain_one() -> None:
    x = torch.zeros(2, CHANNELS, 6, 5)
    a = torch.ones(2, 1, 6, 5)
    modulation = ReplaceModulation(CHANNELS)
    noise = modulation(x.bfloat16(), a)
    assert noise.dtype == torch.bfloat16 and (noise != 0).any()
    assert noise.float().std().item() == pytest.approx(0.001, rel=0.2)


def test_a_layer_in_a_backbone_can_replace() -> None:
    layer = AIBLayer(CHANNELS, modulation='replace')
    assert len(layer.attention.modulations) == 1
    assert layer(features()[0]).shape == (2, CHANNELS, 6, 5)


def test_no_samples_are_no_noise() -> None:
    neck = AIBAttention(CHANNELS, modulation='replace', test_samples=0)
    feats = features()
    neck(feats)
    neck.eval()
    state = torch.get_rng_state()
    out = neck(feats)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(out[0], out.expected[0])
    expected = neck.modulations[0].expected(feats[0], out.attention[0].mean)
    torch.testing.assert_close(out[0], expected)


def test_prediction_leaves_the_statistics_alone() -> None:
    neck = AIBAttention(CHANNELS, modulation='replace').eval()
    neck(features())
    assert neck.modulations[0].batches == 0


def test_statistics_travel_with_a_checkpoint() -> None:
    neck = AIBAttention(CHANNELS, modulation='replace')
    neck(features(2))
    other = AIBAttention(CHANNELS, modulation='replace')
    other.load_state_dict(neck.state_dict())
    for level in range(2):
        ours, theirs = other.modulations[level], neck.modulations[level]
        assert torch.equal(ours.running_std, theirs.running_std)


@pytest.mark.parametrize('options', [dict(modulation='replace'), dict(prior_std=0.2)])
def test_gradients_of_the_price_reach_the_branch(options: dict) -> None:
    neck = AIBAttention(CHANNELS, **options)
    neck(features()).losses['map_nats'].backward()
    grad = neck.branches[0].mean_conv.weight.grad
    assert grad.isfinite().all() and grad.abs().sum() > 0


# --- the loss ----------------------------------------------------------------------


def priced(**options: float) -> dict[str, Tensor]:
    neck = AIBAttention(CHANNELS, modulation='replace')
    latent = Latent(torch.zeros(1, 2, 3), torch.zeros(2, 3), torch.ones(2, 3))
    torch.manual_seed(1)
    return AIBLoss(**options)(latent, neck(features()).take_losses())


def test_the_price_is_of_each_nat() -> None:
    losses = priced(attention_price=0.3)
    assert not losses['map_nats'].requires_grad
    torch.testing.assert_close(losses['loss_price'].detach(), 0.3 * losses['map_nats'])


def test_without_a_price_the_nats_are_only_told() -> None:
    losses = priced()
    assert 'loss_price' not in losses and losses['map_nats'] > 0


@pytest.fixture
def hub() -> MessageHub:
    return MessageHub.get_instance('test_price')


@pytest.mark.parametrize(
    ('step', 'share'), [(0, 0), (10, 0), (15, 0.25), (30, 1), (99, 1)]
)
def test_the_price_rises_with_the_runners_count(hub, step: int, share: float) -> None:
    hub.update_info('iter', step)
    loss = NeckLoss(attention_price=2.0, price_begin=10, price_end=30)
    assert loss.price() == pytest.approx(2.0 * share)


@pytest.mark.parametrize(('step', 'share'), [(0, 0), (25, 0), (30, 0.2), (50, 1)])
def test_the_price_rises_with_the_share_of_the_training(hub, step, share) -> None:
    hub.update_info('iter', step)
    hub.update_info('max_iters', 100)
    loss = NeckLoss(attention_price=2.0, price_begin=0.25, price_end=0.5)
    assert loss.price() == pytest.approx(2.0 * share)


def test_without_a_runner_a_share_is_over(monkeypatch) -> None:
    none = MessageHub('test_price_of_nobody')
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: none)
    assert NeckLoss(attention_price=2.0, price_end=0.5).price() == 2.0


def test_a_price_may_come_at_once_later(hub) -> None:
    loss = NeckLoss(attention_price=2.0, price_begin=5, price_end=5)
    hub.update_info('iter', 4)
    assert loss.price() == 0
    hub.update_info('iter', 5)
    assert loss.price() == 2.0


def test_a_price_from_the_first_iteration_is_whole_at_once(hub) -> None:
    hub.update_info('iter', 0)
    assert NeckLoss(attention_price=2.0).price() == 2.0


def test_a_price_that_the_training_never_reaches_is_said_once(hub, monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr('aib_mm.losses.print_log', lambda text, **_: said.append(text))
    hub.update_info('max_iters', 20)
    NeckLoss(attention_price=2.0, price_end=19).price()
    loss = NeckLoss(attention_price=2.0, price_begin=5, price_end=30)
    for step in range(3):
        hub.update_info('iter', step)
        loss.price()
        loss.price()  # of another level
    (text,) = said
    assert '20 iterations, and price_end=30; set price_begin=0.25 and' in text


def test_a_price_adds_no_key_to_a_checkpoint() -> None:
    assert not AIBLoss(attention_price=1.0, price_end=5).state_dict()


@pytest.mark.parametrize(
    'feats',
    [features(), AIBAttention(CHANNELS)(features())],
    ids=['plain', 'neck'],
)
def test_a_price_behind_a_neck_that_reports_nothing(feats) -> None:
    with pytest.raises(
        ValueError, match=r"price=0\.1, .*modulation='replace' or prior"
    ):
        NeckLoss(attention_price=0.1).check_neck(feats)
    NeckLoss().check_neck(feats)


def test_a_price_that_comes_second_is_refused_unless_it_is_the_firsts() -> None:
    neck = AIBAttention(CHANNELS, modulation='replace')
    for first in (0.0, 0.5):
        out = neck(features())
        AIBLoss(attention_price=first).check_neck(out)
        for price in (0.0, first):
            AIBLoss(attention_price=price).check_neck(out)
        message = rf'attention_price=2, .* is never paid.*attention_price={first}'
        with pytest.raises(ValueError, match=message):
            AIBLoss(attention_price=2).check_neck(out)
    with pytest.raises(ValueError, match=r'price_end=0\.9\) is never paid'):
        AIBLoss(attention_price=0.5, price_end=0.9).check_neck(out)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(attention_price=-1), 'attention_price must be finite and >= 0, got -1'),
        (dict(attention_price='1'), "attention_price must be finite and >= 0, got '1'"),
        (
            dict(price_begin=-1),
            'price_begin must be an iteration, an integer >= 0.*got -1',
        ),
        (dict(price_begin=9, price_end=3), 'price_end=3 is before price_begin=9'),
        (dict(price_end=1.5), r'price_end must .* a share .* in \[0, 1\], got 1\.5'),
        (dict(price_end=math.nan), 'price_end must .* got nan'),
        (
            dict(price_begin=9, price_end=0.5),
            r'price_begin=9 and price_end=0\.5 must both be',
        ),
    ],
)
def test_bad_prices(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AIBLoss(**arguments)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(prior_std=0), 'prior_std must be positive and finite, got 0'),
        (dict(prior_std='a'), "prior_std must be positive and finite, got 'a'"),
        (dict(prior_std=0.1, modulation='replace'), 'leave prior_std out'),
        (dict(noise=dict(type='AdditiveNoise'), modulation='replace'), 'noise=None'),
    ],
)
def test_necks_that_cannot_be_priced(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AIBAttention(CHANNELS, **arguments)


def test_more_levels_than_statistics_are_refused() -> None:
    neck = AIBAttention(CHANNELS, modulation='replace')
    with pytest.raises(ValueError, match=r'statistics of 8 levels, got 9: give in_cha'):
        neck(features(9))


def test_every_modulation_with_statistics_has_them_by_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(AIBAttention([4, 4], modulation='bias').modulations) == 1
    monkeypatch.setattr(BiasModulation, 'per_level', True)
    assert len(AIBAttention([4, 4], modulation='bias').modulations) == 2


class Foreign(BaseModel):
    """The least model with a priced neck and a head that knows nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = AIBAttention(CHANNELS, modulation='replace')

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.neck((inputs,))[0].mean())


def test_the_hook_prices_the_map_of_foreign_heads() -> None:
    model = Foreign()
    hook = AIBLossHook(attention_price=0.5)
    hook.before_train(SimpleNamespace(model=model))
    losses = model(features()[0])
    torch.testing.assert_close(losses['loss_price'].detach(), 0.5 * losses['map_nats'])
    total, logged = model.parse_losses(losses)
    assert 'map_nats' in logged
    torch.testing.assert_close(total, losses['loss_cls'] + losses['loss_price'])
    torch.testing.assert_close(logged['loss'], total)


def test_the_hook_drops_no_loss_of_a_host() -> None:
    model = Foreign()
    hook = AIBLossHook(attention_price=0.5)
    hook.before_train(SimpleNamespace(model=model))
    model.forward = lambda x: dict(loss_cls=1.0, loss=model.neck((x,))[0].mean())
    losses = model(features()[0])
    assert {'loss', 'loss_cls', 'loss_price'} <= losses.keys()


def test_the_hook_refuses_a_price_that_nothing_pays() -> None:
    model = Foreign()
    model.neck = AIBAttention(CHANNELS)
    hook = AIBLossHook(attention_price=0.5)
    hook.before_train(SimpleNamespace(model=model))
    with pytest.raises(ValueError, match='reports no map_nats'):
        model(features()[0])


def test_the_hook_refuses_a_price_where_a_head_takes_the_losses() -> None:
    model = Foreign()
    model.neck.register_forward_hook(lambda *a: a[2].take_losses() and None)
    hook = AIBLossHook(attention_price=0.5)
    hook.before_train(SimpleNamespace(model=model))
    with pytest.raises(ValueError, match=r'price=0\.5 of AIBLossHook.*its aib_loss'):
        model(features()[0])


def test_the_hook_prices_what_is_left_of_several_attentions() -> None:
    model = Foreign()
    model.other = AIBAttention(CHANNELS, prior_std=0.2)
    model.neck.register_forward_hook(lambda *a: a[2].take_losses() and None)
    model.forward = lambda x: dict(
        loss=model.neck((x,))[0].mean() + model.other((x,))[0].mean()
    )
    hook = AIBLossHook(attention_price=0.5)
    hook.before_train(SimpleNamespace(model=model))
    assert model(features()[0])['loss_price'] > 0


def test_the_hook_averages_the_nats_of_several_necks() -> None:
    model = Foreign()
    model.other = AIBAttention(CHANNELS, prior_std=0.2)
    seen = []
    for neck in (model.neck, model.other):
        neck.register_forward_hook(lambda *a: seen.append(a[2].losses['map_nats']))
    model.forward = lambda x: dict(
        loss=model.neck((x,))[0].mean() + model.other((x,))[0].mean()
    )
    hook = AIBLossHook(attention_price=0.5)
    hook.before_train(SimpleNamespace(model=model))
    losses = model(features()[0])
    torch.testing.assert_close(losses['map_nats'], (sum(seen) / 2).detach())
    torch.testing.assert_close(losses['loss_price'], 0.5 * sum(seen))


def test_of_two_positions_the_needless_one_loses_its_score() -> None:
    """The label is at the left position; the right one holds noise alone."""
    torch.manual_seed(0)
    neck = AIBAttention(2, modulation='replace', initial_score=0.7)
    head = nn.Linear(4, 1)
    price = NeckLoss(attention_price=0.05, price_begin=0)
    optimizer = torch.optim.Adam([*neck.parameters(), *head.parameters()], lr=0.03)
    for _ in range(300):
        label = torch.randint(2, (64, 1)).float()
        # One channel tells the places apart, the other holds the label, or noise.
        place = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2).expand(64, 1, 1, 2)
        content = torch.stack([4 * label - 2, 2 * torch.randn(64, 1)], dim=-1)
        x = torch.cat([place, content.unsqueeze(1)], dim=1)
        out = neck((x,))
        loss = nn.functional.binary_cross_entropy_with_logits(
            head(out[0].flatten(1)), label
        )
        optimizer.zero_grad()
        (loss + price(out.take_losses())['loss_price']).backward()
        optimizer.step()
    needed, needless = out.attention[0].mean.mean(dim=0).flatten().tolist()
    assert needless < 0.1 and needed > 0.4
