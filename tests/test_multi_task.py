"""mmpretrain's ``MultiTaskHead`` behind our neck: it masks features for each task."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmpretrain')

from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample, MultiTaskDataSample

from aib_mm.features import AttendedFeatures
from aib_mm.hooks import AIBLossHook

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

QT = dict(type='VQAnchorQuantizer', num_anchors=5)
CLASSES = dict(digit=4, colour=3)
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
#: The second image has no colour.
LABELS: list[dict[str, int]] = [
    dict(digit=1, colour=2),
    dict(digit=0),
    dict(digit=3, colour=0),
]


def linear(classes: int) -> dict:
    return dict(type='LinearClsHead', num_classes=classes, in_channels=4)


def ours(classes: int, **options: Any) -> dict:
    encoder = dict(type='GaussianEncoder', in_features=4)
    head = dict(type='AIBClsHead', num_classes=classes, encoder=encoder, latent_dim=8)
    return {**head, **options}


def build(make_head: Any, **neck: Any) -> ImageClassifier:
    tasks = {task: make_head(classes) for task, classes in CLASSES.items()}
    pool = dict(type='GlobalAveragePooling') if make_head is linear else None
    return ImageClassifier(
        backbone=dict(type='VGGBlocks', blocks=(1,), width=1 / 16),
        neck=dict(type='AIBAttention', in_channels=4, post_neck=pool, **neck),
        head=dict(type='MultiTaskHead', task_heads=tasks),
    ).train()


def samples() -> list[MultiTaskDataSample]:
    found = []
    for labels in LABELS:
        sample = MultiTaskDataSample()
        for task, label in labels.items():
            sample.set_field(DataSample().set_gt_label(label), task)
        found.append(sample)
    return found


def step(model: ImageClassifier, hook: bool) -> tuple[dict, AttendedFeatures]:
    """Losses of a training step, and what the neck gave."""
    if hook:
        AIBLossHook().before_train(SimpleNamespace(model=model))
    outputs: list[AttendedFeatures] = []
    model.neck.register_forward_hook(lambda *args: outputs.append(args[-1]))
    losses = model(IMAGES, samples(), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    (features,) = outputs
    return losses, features


def quantisation(losses: dict[str, Tensor]) -> dict[str, float]:
    return {k: v.item() for k, v in losses.items() if 'vq' in k or 'cmt' in k}


@pytest.mark.parametrize('num_samples', [1, 2])
def test_the_hosts_heads_learn_and_the_hook_counts_the_losses_once(
    num_samples: int,
) -> None:
    model = build(linear, quantizer=QT, train_samples=num_samples)
    losses, features = step(model, hook=True)
    assert quantisation(losses) == pytest.approx(
        {
            'loss_vq': 0.4 * features.losses['vq_loss'].item(),
            'loss_cmt': 0.1 * features.losses['commit_loss'].item(),
        }
    )
    # Of each task the loss of the images that have it, on what the tuple holds.
    for task, head in model.head.task_heads.items():
        rows = [i for i, labels in enumerate(LABELS) if task in labels]
        logits = head.fc(features[0][rows])
        targets = torch.tensor([LABELS[i][task] for i in rows])
        expected = torch.nn.functional.cross_entropy(logits, targets)
        torch.testing.assert_close(losses[f'{task}_loss'], expected)
    assert all(p.grad is not None for p in model.parameters())


def test_our_heads_learn_from_one_sample_and_from_their_own_images() -> None:
    model = build(ours, quantizer=QT)
    losses, features = step(model, hook=True)
    assert quantisation(losses).keys() == {'loss_vq', 'loss_cmt'}
    for task, head in model.head.task_heads.items():
        rows = [i for i, labels in enumerate(LABELS) if task in labels]
        latent = head.encoder(features[0][rows], 0)
        nats = head.encoder(features[0][rows], 1)
        kl = (nats.mean**2 + nats.std**2 - 1) / 2 - nats.std.log()
        torch.testing.assert_close(losses[f'{task}_loss_kl'], 0.01 * kl.mean())
        assert latent.samples.shape == (1, len(rows), 8)
    assert all(p.grad is not None for p in model.parameters())


def test_quantisation_losses_that_nobody_takes_stop_with_the_remedy() -> None:
    for head in (linear, ours):
        with pytest.raises(RuntimeError, match=r'not taken by any head.*AIBLossHook'):
            step(build(head, quantizer=QT), hook=False)


def test_several_samples_that_the_mask_loses_are_refused_with_the_remedy() -> None:
    message = 'MultiTaskHead .*set train_samples=1'
    with pytest.raises(ValueError, match=message):
        step(build(ours, train_samples=2), hook=False)


def test_a_noise_encoder_learns_from_its_one_draw() -> None:
    def noisy(classes: int) -> dict:
        kl = dict(type='AdversarialKL', latent_dim=8)
        encoder = dict(type='NoiseEncoder', in_features=4)
        loss = dict(type='AIBLoss', kl=kl)
        return ours(classes, encoder=encoder, aib_loss=loss, test_samples=1)

    noise = dict(type='AdditiveNoise', train_samples=1)
    losses, _ = step(build(noisy, noise=noise), hook=False)
    assert all(losses[f'{task}_loss_disc'].isfinite() for task in CLASSES)


def test_a_price_is_the_hooks_matter() -> None:
    def priced(classes: int) -> dict:
        return ours(classes, aib_loss=dict(type='AIBLoss', attention_price=1.0))

    with pytest.raises(ValueError, match=r'MultiTaskHead.*AIBLossHook'):
        step(build(priced, prior_std=0.2), hook=False)


def test_it_predicts_from_every_sample() -> None:
    model = build(ours, test_samples=3, quantizer=QT).eval()
    with torch.no_grad():
        predictions = model(IMAGES, None, mode='predict')
    for task, classes in CLASSES.items():
        scores = torch.stack([one.get(task).pred_score for one in predictions])
        assert scores.shape == (3, classes)
        assert all(one.get(task).mutual_information > 0 for one in predictions)
