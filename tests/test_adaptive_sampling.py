"""Further samples only where the class is not settled."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmpretrain')

from mmpretrain.structures import DataSample

from aib_mm.attention import AIBAttention
from aib_mm.classification import AIBClsHead
from aib_mm.classification.heads.adaptive import AdaptiveSampling, by_count, spread
from aib_mm.interpret import SamplesDrawn, information_of_images, record_latents
from aib_mm.interpret.record.information import LatentRows

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

NUM_A, BATCH, CLASSES = 4, 6, 3
NEVER = dict(margin=math.inf)
AT_ONCE = dict(margin=1e-9)


def neck(**options: Any) -> AIBAttention:
    """A neck whose samples differ much."""
    torch.manual_seed(4)
    module = AIBAttention(6, test_samples=NUM_A, **options)
    module.branches[0].std_conv.bias.data.fill_(6.0)
    return module.eval()


def head(adaptive: dict | None, **options: Any) -> AIBClsHead:
    torch.manual_seed(3)
    encoder = dict(type='GaussianEncoder', in_features=6, std_shift=2.0)
    options = dict(dict(num_classes=CLASSES, latent_dim=8, encoder=encoder), **options)
    return AIBClsHead(adaptive=adaptive, **options).eval()


def predict(
    attend: AIBAttention, module: AIBClsHead, seed: int = 1
) -> dict[str, Tensor]:
    """All fields of the data samples, as one batch each."""
    x = torch.randn(BATCH, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(seed)
    with torch.no_grad():
        found = module.predict(attend(x))
    names = set(found[0].keys())
    return {name: torch.stack([one.get(name) for one in found]) for name in names}


@pytest.mark.parametrize('average', ['logit', 'prob'])
def test_an_impossible_threshold_is_full_sampling(average: str) -> None:
    full = predict(neck(sample_chunk=1), head(None, average=average))
    never = predict(neck(sample_chunk=1), head(NEVER, average=average))
    assert never.pop('samples_drawn').tolist() == [NUM_A] * BATCH
    assert full.keys() == never.keys()
    for name, values in full.items():
        assert torch.equal(never[name], values), name
    at_once = predict(neck(), head(None, average=average))
    for name, values in at_once.items():
        torch.testing.assert_close(never[name], values, atol=1e-6, rtol=0, msg=name)


def test_agreeing_draws_are_never_settled_by_infinity() -> None:
    logits = torch.tensor([2.0, 0.0]).expand(2, 3, 1, 2)
    assert not AdaptiveSampling(margin=math.inf).settled(logits).any()
    assert AdaptiveSampling(margin=1e9).settled(logits).all()


def test_an_easy_threshold_takes_the_least() -> None:
    for least in (1, 3):
        attend, module = neck(), head(dict(AT_ONCE, min_samples=least))
        found = predict(attend, module)
        assert found['samples_drawn'].tolist() == [least] * BATCH
        # The first samples of the full run, since the noise is the same.
        torch.manual_seed(1)
        x = torch.randn(BATCH, 6, 5, 5, generator=torch.Generator().manual_seed(0))
        attended = attend(x)
        logits = [
            module.decoder(module.encoder(chunk.maps[0], 4).samples)
            for chunk, _ in zip(attended.draw(1), range(least), strict=False)
        ]
        expected = torch.cat(logits).mean(dim=0).softmax(dim=-1)
        torch.testing.assert_close(found['pred_score'], expected)


def test_only_unsettled_images_are_encoded_again(monkeypatch) -> None:
    module = head(dict(margin=4.0))
    sizes: list[int] = []
    module.encoder.register_forward_pre_hook(
        lambda _, inputs: sizes.append(len(inputs[0]))
    )
    verdicts = iter([[True, False, True, False, True, False], [False, True, True]])

    def settled(self: AdaptiveSampling, logits: Tensor) -> Tensor:
        assert logits.isfinite().all()
        found = next(verdicts, None)
        return (
            torch.zeros(logits.shape[2]).bool()
            if found is None
            else torch.tensor(found)
        )

    monkeypatch.setattr(AdaptiveSampling, 'settled', settled)
    found = predict(neck(), module)
    assert found['samples_drawn'].tolist() == [1, NUM_A, 1, 2, 1, 2]
    assert sizes == [6, 3, 1, 1]
    for name, values in found.items():
        assert values.isfinite().all(), name


def test_all_settled_stops_the_sampling(monkeypatch) -> None:
    module = head(AT_ONCE)
    calls: list[int] = []
    module.encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    predict(neck(), module)
    assert len(calls) == 1


def settled_by_hand(draws: list[list[float]], margin: float) -> bool:
    """Of probabilities of each draw, from the words of the docstring."""
    count, classes = len(draws), range(len(draws[0]))
    means = [sum(draw[c] for draw in draws) / count for c in classes]
    second, first = sorted(classes, key=lambda c: means[c])[-2:]
    gaps = [draw[first] - draw[second] for draw in draws]
    mean = sum(gaps) / count
    variance = sum((gap - mean) ** 2 for gap in gaps) / (count - 1)
    return mean >= margin * math.sqrt(variance / count)


@pytest.mark.parametrize('margin', [0.5, 2.0, 4.0])
def test_the_criterion_against_its_definition(margin: float) -> None:
    logits = torch.randn(4, 2, 40, 5, dtype=torch.float64)
    logits[..., 0] += torch.linspace(0, 4, 40)
    found = AdaptiveSampling(margin).settled(logits).tolist()
    draws = logits.softmax(dim=-1).flatten(0, 1)
    expected = [settled_by_hand(draws[:, i].tolist(), margin) for i in range(40)]
    assert found == expected
    assert 0 < sum(found) < 40


def test_one_draw_settles_nothing() -> None:
    logits = torch.tensor([[[[100.0, 0.0]]]])
    assert not AdaptiveSampling(1e-9).settled(logits).any()
    assert AdaptiveSampling(1e-9).settled(logits.expand(2, 1, 1, 2)).all()


def test_without_attention_there_is_one_sample() -> None:
    module = head(NEVER)
    x = torch.randn(BATCH, 6, 5, 5)
    assert [one.samples_drawn for one in module.predict((x,))] == [1] * BATCH


def test_noise_encoders_adapt_too() -> None:
    attend = neck(noise=dict(type='AdditiveNoise', std=1.0, test_samples=2))
    encoder = dict(type='NoiseEncoder', in_features=6)
    loss = dict(type='AIBLoss', kl=dict(type='AdversarialKL', latent_dim=8))
    options = dict(encoder=encoder, aib_loss=loss, test_samples=1)
    full, never = (predict(attend, head(how, **options)) for how in (None, NEVER))
    assert never['samples_drawn'].tolist() == [2 * NUM_A] * BATCH
    torch.testing.assert_close(
        never['pred_score'], full['pred_score'], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize('least', [1, 3])
def test_min_samples_counts_attention_samples_of_noise_encoders_too(least: int) -> None:
    noise = dict(type='AdditiveNoise', std=1.0, test_samples=2)
    loss = dict(type='AIBLoss', kl=dict(type='AdversarialKL', latent_dim=8))
    module = head(
        dict(AT_ONCE, min_samples=least),
        encoder=dict(type='NoiseEncoder', in_features=6),
        aib_loss=loss,
        test_samples=1,
    )
    found = predict(neck(noise=noise), module)
    assert found['samples_drawn'].tolist() == [2 * least] * BATCH


def test_by_count_keeps_the_order() -> None:
    counts = torch.tensor([2, 1, 2, 3])
    found = by_count(counts, lambda images, count: dict(v=images * 10 + count))
    assert found['v'].tolist() == [2, 11, 22, 33]
    values = spread(torch.tensor([[5.0], [6.0]]), torch.tensor([2, 0]), 3, dim=0)
    assert values[0].item() == 6 and values[1].isnan() and values[2].item() == 5


def test_the_evaluator_reports_the_mean() -> None:
    metric = SamplesDrawn()
    samples = [DataSample() for _ in range(4)]
    for sample, count in zip(samples, [1, 1, 4, 2], strict=True):
        sample.set_field(torch.tensor(count), 'samples_drawn')
    metric.process({}, [sample.to_dict() for sample in samples])
    assert metric.evaluate(4) == {'samples/mean': 2.0, 'samples/most': 4.0}
    with pytest.raises(KeyError, match=r"'samples_drawn': set adaptive=dict\(\) in"):
        metric.process({}, [DataSample().to_dict()])


@pytest.mark.parametrize(
    ('adaptive', 'message'),
    [
        (dict(margin=0), 'adaptive margin must be positive, got 0'),
        (dict(margin=math.nan), 'adaptive margin must be positive, got nan'),
        (dict(min_samples=0), r'adaptive min_samples must be an integer >= 1, got 0'),
    ],
)
def test_impossible_settings(adaptive: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head(adaptive)


def test_samples_that_share_noise_are_refused() -> None:
    with pytest.raises(ValueError, match=r"modulation='replace'.*set adaptive=None"):
        predict(neck(modulation='replace'), head(NEVER))


def test_a_single_class_has_no_gap() -> None:
    with pytest.raises(
        ValueError, match='adaptive needs two classes or more, got num_'
    ):
        head(dict(), num_classes=1)


@pytest.mark.parametrize('margin', [1e-9, 10.0, math.inf])
def test_bits_are_those_of_each_images_own_samples(margin: float) -> None:
    """The head's ``kl_nats`` is the oracle: it knows which rows are whose."""
    attend, module = neck(), head(dict(margin=margin))
    with record_latents(module) as rows:
        found = predict(attend, module)
    drawn = found['samples_drawn']
    assert len(rows) == drawn.max() and len(rows[-1].bits) == (drawn == len(rows)).sum()
    assert margin != 10.0 or len(drawn.unique()) > 1
    bits = [one.total for one in information_of_images(rows, BATCH)]
    assert bits == pytest.approx((found['kl_nats'] / math.log(2)).tolist(), rel=1e-5)


def test_an_adaptive_latent_and_one_of_all_images_are_summed() -> None:
    some = [
        LatentRows(torch.tensor([1.0, 2.0, 4.0]), None, 'a', torch.arange(3)),
        LatentRows(torch.tensor([3.0, 8.0]), None, 'a', torch.tensor([0, 2])),
        LatentRows(torch.tensor([10.0]), None, 'a', torch.tensor([2])),
    ]
    every = LatentRows(torch.tensor([1.0, 1, 1, 3, 3, 3]), None, 'b')
    found = information_of_images([*some, every], 3)
    # Means of (1, 3), (2) and (4, 8, 10), each with the 2 of the other latent.
    assert [one.total for one in found] == pytest.approx([4, 4, 22 / 3 + 2])
