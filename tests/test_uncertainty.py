"""Entropy, mutual information, calibration and error detection; the head's fields.

The literal values of ``test_libraries_agree`` are those of scikit-learn 1.9.1 and
torchmetrics 1.9.0; where they are installed they are asked again.
"""

import importlib.util
import math

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement
from noise_replay import Noise
from torch import Tensor

from aib_mm.entropy import (
    binary_entropy,
    entropy,
    mutual_information,
    predictive_entropy,
)
from aib_mm.interpret.measure.uncertainty import (
    PredictionUncertainty,
    error_detection_auroc,
    expected_calibration_error,
)

LN2 = math.log(2)

needs_mmpretrain = pytest.mark.skipif(
    importlib.util.find_spec('mmpretrain') is None, reason='needs mmpretrain'
)


def test_entropy_of_hand_made_scores() -> None:
    scores = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]])
    assert entropy(scores).tolist() == pytest.approx([0, 2 * LN2, LN2])


def test_entropy_of_being_there_or_not() -> None:
    found = binary_entropy(torch.tensor([0.0, 0.5, 1.0, 0.75]))
    assert found.tolist() == pytest.approx([0, LN2, 0, 2 * LN2 - 0.75 * math.log(3)])


def test_disagreement_is_information_and_flatness_is_not() -> None:
    sure = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # two samples, one image
    flat = torch.full((2, 1, 2), 0.5)
    agreed = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    both = torch.cat([sure, flat, agreed], dim=1)
    assert predictive_entropy(both).tolist() == pytest.approx([LN2, LN2, 0])
    assert mutual_information(both).tolist() == pytest.approx([LN2, 0, 0])


def test_information_equals_the_sum() -> None:
    scores = torch.randn(4, 6, 5, dtype=torch.float64).softmax(dim=-1)
    expected = []
    for image in range(6):
        mean = [scores[:, image, c].mean().item() for c in range(5)]
        # The mean divergence of the samples from their mean.
        terms = [
            scores[s, image, c].item() * math.log(scores[s, image, c].item() / mean[c])
            for s in range(4)
            for c in range(5)
        ]
        expected.append(sum(terms) / 4)
    assert mutual_information(scores).tolist() == pytest.approx(expected)
    one = mutual_information(scores[:1])
    assert torch.equal(one, torch.zeros(6).double())
    # Equal samples, whose mean is not exact: never below 0.
    assert (mutual_information(scores[:1].float().expand(3, 6, 5)) >= 0).all()


def flags(*values: int) -> Tensor:
    return torch.tensor(values).bool()


def test_calibration_error_of_a_hand() -> None:
    confidence = torch.tensor([0.95, 0.85, 0.65, 0.55])
    # Two bins: all four above 1/2; three quarters right, mean confidence 0.75.
    assert expected_calibration_error(confidence, flags(1, 1, 1, 0), 2) == (
        pytest.approx(0, abs=1e-7)
    )
    # Ten bins: each alone in its own.
    gaps = (0.05 + 0.15 + 0.35 + 0.55) / 4
    found = expected_calibration_error(confidence, flags(1, 1, 1, 0), 10)
    assert found == pytest.approx(gaps)
    # A bin has its upper end: 0.5 is with 0.3, and 0 in the first one.
    edge = torch.tensor([0.5, 0.3, 0.0, 1.0])
    found = expected_calibration_error(edge, flags(1, 0, 0, 1), 2)
    assert found == pytest.approx(abs(1 - 0.8) / 4)


def test_detection_of_errors_of_a_hand() -> None:
    wrong = flags(1, 1, 0, 0)
    assert error_detection_auroc(torch.tensor([4.0, 3, 2, 1]), wrong) == 1
    assert error_detection_auroc(torch.tensor([1.0, 2, 3, 4]), wrong) == 0
    assert error_detection_auroc(torch.ones(4), wrong) == 0.5
    # Of four pairs two are in order, one is equal, one is not.
    assert error_detection_auroc(torch.tensor([3.0, 1, 1, 2]), wrong) == 2.5 / 4


def test_limits_are_no_numbers() -> None:
    assert math.isnan(error_detection_auroc(torch.rand(3), flags(1, 1, 1)))
    assert math.isnan(error_detection_auroc(torch.rand(3), flags(0, 0, 0)))
    assert math.isnan(expected_calibration_error(torch.rand(0), flags()))


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: expected_calibration_error(torch.tensor([1.2]), flags(1)),
            r'confidence must be in \[0, 1\], got 1\.2 to 1\.2',
        ),
        (
            lambda: expected_calibration_error(torch.rand(1), flags(1), 0),
            r'bins must be an integer >= 1, got 0',
        ),
        (
            lambda: error_detection_auroc(torch.rand(2), flags(1)),
            r'both be \(N,\), got \(2,\) and \(1,\)',
        ),
        (
            lambda: error_detection_auroc(torch.rand(1), torch.ones(1)),
            r'flags must be bool, got torch\.float32',
        ),
        (lambda: PredictionUncertainty(bins=0), r'bins must be .* got 0'),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def example() -> tuple[Tensor, Tensor]:
    """Confidences and flags from a formula, with equal ones among them."""
    count = torch.arange(60)
    return ((count * 37) % 41 + 10).double() / 51, (count * 17) % 7 < 3


#: ``sklearn.metrics.roc_auc_score``; ``binary_calibration_error(norm='l1')``.
AUROC = 0.5316742081447964
ECE = 0.2261437908496732


def test_libraries_agree() -> None:
    confidence, flag = example()
    assert error_detection_auroc(confidence, flag) == pytest.approx(AUROC)
    found = expected_calibration_error(confidence, flag, bins=10)
    assert found == pytest.approx(ECE, rel=1e-6)


def test_scikit_learn_says_so_today() -> None:
    metrics = pytest.importorskip('sklearn.metrics')
    confidence, flag = example()
    assert metrics.roc_auc_score(flag, confidence) == pytest.approx(AUROC)


def test_torchmetrics_says_so_today() -> None:
    functional = pytest.importorskip('torchmetrics.functional.classification')
    confidence, flag = example()
    found = functional.binary_calibration_error(confidence, flag.int(), n_bins=10)
    assert found.item() == pytest.approx(ECE, rel=1e-6)


def evaluate(samples: list[dict]) -> dict[str, float]:
    evaluator = Evaluator([PredictionUncertainty(bins=10)])
    elements = []
    for fields in samples:
        element = BaseDataElement()
        element.set_data(fields)
        elements.append(element)
    evaluator.process(data_samples=elements)
    return evaluator.evaluate(len(elements))


def sample(scores: list[float], label: int, **fields: float | Tensor) -> dict:
    extra = {k: torch.as_tensor(v) for k, v in fields.items()}
    return dict(
        pred_score=torch.tensor(scores), gt_label=torch.tensor([label]), **extra
    )


def test_the_metric_of_a_plain_classifier() -> None:
    found = evaluate(
        [sample([0.75, 0.25], 0), sample([0.5, 0.5], 1), sample([0.1, 0.9], 1)]
    )
    prefix = 'uncertainty/'
    assert set(found) == {
        prefix + name
        for name in ('ece', 'entropy_nats', 'auroc_confidence', 'auroc_entropy')
    }
    # Each in a bin of its own: 0.25, 0.5 (of equal scores the first is predicted), 0.1.
    assert found['uncertainty/ece'] == pytest.approx((0.25 + 0.5 + 0.1) / 3)
    assert found['uncertainty/auroc_confidence'] == 1
    entropies = entropy(torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]))
    assert found['uncertainty/entropy_nats'] == pytest.approx(entropies.mean().item())


def test_the_metric_takes_what_the_head_wrote() -> None:
    def fields(number: float) -> dict:
        std = torch.full((1, 2, 2), number)
        return dict(
            predictive_entropy=number, mutual_information=number / 2, attention_std=std
        )

    samples = [
        sample([0.9, 0.1], 0, **fields(1.0)),
        sample([0.8, 0.2], 1, **fields(3.0)),
    ]
    found = evaluate(samples)
    assert found['uncertainty/entropy_nats'] == 2
    assert found['uncertainty/mutual_information_nats'] == 1
    assert found['uncertainty/attention_std'] == 2
    for name in ('entropy', 'mutual_information', 'attention_std'):
        assert found[f'uncertainty/auroc_{name}'] == 1
    # What one image lacks is not reported of the others.
    partly = evaluate([*samples, sample([0.9, 0.1], 0)])
    assert 'uncertainty/mutual_information_nats' not in partly


def test_the_metric_says_what_it_is_for() -> None:
    with pytest.raises(KeyError, match=r"no 'pred_score': PredictionUncertainty is"):
        evaluate([dict(gt_label=torch.tensor([0]))])
    several = dict(pred_score=torch.tensor([0.5, 0.5]), gt_label=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r'one label per image, got \[0, 1\]'):
        evaluate([several])
    with pytest.raises(ValueError, match=r'exclude each other, got .* sum to 1\.5'):
        evaluate([sample([0.5, 0.5, 0.5], 0)])


def classifier(map_samples: int, latent_samples: int, average: str = 'logit'):
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='VGGBlocks', blocks=(1,), width=1 / 8),
        neck=dict(
            type='AIBAttention', in_channels=8, test_samples=map_samples, std_shift=0.0
        ),
        head=dict(
            type='AIBClsHead',
            num_classes=5,
            latent_dim=4,
            test_samples=latent_samples,
            average=average,
            encoder=dict(type='GaussianEncoder', in_features=8, std_shift=0.0),
        ),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(model).eval()


@needs_mmpretrain
@pytest.mark.parametrize('average', ['logit', 'prob'])
def test_the_head_writes_the_doubt_of_its_own_samples(
    average: str, noise: Noise
) -> None:
    model = classifier(map_samples=2, latent_samples=3, average=average)
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        found = model(images, mode='predict')
        model.neck.test_samples = model.head.test_samples = 1
        alone = []
        for run in noise.runs(2, 3):
            noise.replay = iter(run)
            samples = model(images, mode='predict')
            alone.append(torch.stack([sample.pred_score for sample in samples]))
    scores = torch.stack(alone)
    assert scores.shape == (6, 4, 5)
    entropies = torch.stack([sample.predictive_entropy for sample in found])
    torch.testing.assert_close(entropies, predictive_entropy(scores))
    information = torch.stack([sample.mutual_information for sample in found])
    torch.testing.assert_close(information, mutual_information(scores))
    assert (information > 0).all() and (information < entropies).all()


@needs_mmpretrain
def test_without_sampling_there_is_no_disagreement() -> None:
    model = classifier(map_samples=0, latent_samples=0)
    with torch.no_grad():
        found = model(torch.rand(4, 3, 8, 8), mode='predict')
    for sample in found:
        assert sample.mutual_information.item() == 0
        expected = entropy(sample.pred_score)
        torch.testing.assert_close(sample.predictive_entropy, expected)
