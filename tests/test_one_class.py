"""Heads of one class an image refuse what means several, and lose no setting."""

from typing import Any

import pytest
import torch

pytest.importorskip('mmpretrain')

from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from aib_mm.classification import AIBClsHead

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

CLASSES = 3
PARTS: dict[str, dict[str, Any]] = {
    'AIBClsHead': dict(encoder=dict(type='GaussianEncoder', in_features=4)),
    'CAMHead': dict(in_channels=4, conv_channels=4),
    'ABNHead': dict(
        branch=dict(type='WideResNetBlocks', blocks=(3,), depth=10, in_channels=4)
        | dict(widen_factor=0.1, first_stride=1),
        body=dict(type='WideResNetBlocks', blocks=(3,), depth=10, in_channels=4)
        | dict(widen_factor=0.1),
    ),
}
BY_CLASS = [
    dict(type='CrossEntropyLoss', use_sigmoid=True),
    dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='multi_label'),
    dict(type='AsymmetricLoss'),
    dict(type='FocalLoss'),
]
SOFTMAX = [
    None,
    dict(type='CrossEntropyLoss', use_soft=True),
    dict(type='LabelSmoothLoss', label_smooth_val=0.1),
    dict(type='SeesawLoss', num_classes=CLASSES),
]


def head(kind: str, **options: Any) -> torch.nn.Module:
    return MODELS.build(dict(type=kind, num_classes=CLASSES, **PARTS[kind], **options))


@pytest.mark.parametrize('loss', BY_CLASS, ids=lambda loss: loss['type'])
@pytest.mark.parametrize('kind', PARTS)
def test_a_sigmoid_loss_is_refused_with_its_remedy(kind: str, loss: dict) -> None:
    with pytest.raises(ValueError, match=f'{kind} .*{loss["type"]}.*MultiLabelLinear'):
        head(kind, loss=loss)


@pytest.mark.parametrize('loss', SOFTMAX, ids=str)
def test_softmax_losses_are_not(loss: dict | None) -> None:
    head('AIBClsHead', loss=loss)


def labelled(*labels: list[int]) -> list[DataSample]:
    return [DataSample().set_gt_label(label) for label in labels]


def scored(*scores: list[float]) -> list[DataSample]:
    return [DataSample().set_gt_score(torch.tensor(score)) for score in scores]


@pytest.mark.parametrize('kind', PARTS)
@pytest.mark.parametrize(
    ('samples', 'named'),
    [
        # As many labels as images: the host would train on the wrong ones.
        (labelled([0, 2], []), r'\[0, 2\]'),
        (labelled([1], [0, 1]), r'\[0, 1\]'),
        (scored([1.0, 0.0, 0.0], [1.0, 0.0, 1.0]), r'\[1.0, 0.0, 1.0\]'),
        (scored([0.0, 0.0, 0.0], [0.0, 1.0, 0.0]), r'\[0.0, 0.0, 0.0\]'),
    ],
    ids=['ragged', 'two', 'scores', 'none'],
)
def test_labels_of_several_classes_are_refused(
    kind: str, samples: list[DataSample], named: str
) -> None:
    with pytest.raises(ValueError, match=f'{kind} learns one .*{named}.*MultiLabel'):
        head(kind).loss((torch.randn(2, 4, 8, 8),), samples)


@pytest.mark.parametrize(
    'samples',
    [labelled([0], [2]), scored([0.3, 0.7, 0.0], [1.0, 0.0, 0.0])],
    ids=['labels', 'mixed'],
)
@pytest.mark.parametrize('kind', PARTS)
def test_one_class_and_mixed_images_train(kind: str, samples: list[DataSample]) -> None:
    losses = head(kind).loss((torch.randn(2, 4, 8, 8),), samples)
    assert losses.get('loss_cls', losses.get('loss')).isfinite()


def test_the_remedy_trains_every_class_for_itself() -> None:
    """The host's multi-label head behind the neck: its loss is that of the logits."""
    gap = dict(type='GlobalAveragePooling')
    model = ImageClassifier(
        backbone=dict(type='VGGBlocks', blocks=(1,), width=1 / 16),
        neck=dict(type='AIBAttention', in_channels=4, post_neck=gap),
        head=dict(type='MultiLabelLinearClsHead', num_classes=CLASSES, in_channels=4),
    )
    labels = [[0, 2], [1]]
    losses = model(torch.randn(2, 3, 8, 8), labelled(*labels), mode='loss')
    losses['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ('options', 'both'),
    [
        (dict(encoder=dict(type='GaussianEncoder', in_features=4, latent_dim=512)),
         'encoder.latent_dim=512, but encoder gets latent_dim=64'),
        (dict(decoder=dict(type='LatentDecoder', latent_dim=32)),
         'decoder.latent_dim=32, but decoder gets latent_dim=64'),
        (dict(decoder=dict(type='LatentDecoder', num_classes=7)),
         'decoder.num_classes=7, but decoder gets num_classes=3'),
    ],
    ids=['encoder', 'latent', 'classes'],
)  # fmt: skip
def test_a_nested_setting_that_would_be_lost_is_an_error(
    options: dict, both: str
) -> None:
    settings = {**PARTS['AIBClsHead'], **options}
    with pytest.raises(ValueError, match=both):
        AIBClsHead(CLASSES, latent_dim=64, **settings)


def test_a_nested_setting_that_agrees_is_none() -> None:
    encoder = dict(type='GaussianEncoder', in_features=4, latent_dim=64)
    assert AIBClsHead(CLASSES, encoder, latent_dim=64).encoder.latent_dim == 64
    assert encoder == dict(type='GaussianEncoder', in_features=4, latent_dim=64)
