"""The Gaussian box and RoI heads: values, samples, losses, limits and errors."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from ddp_parity import freeze_norms, gradient_parity
from mmengine import load
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from narrow_detector import (
    CONFIGS,
    NARROW,
    SIZE,
    batch,
    build,
    losses_of,
    prepared,
    proposals,
    strong_noise,
    without_latents,
)
from noise_replay import Noise
from torch import Tensor, nn

pytest.importorskip('mmdet')

from mmdet.structures.bbox import bbox2roi

import aib_mm
from aib_mm import gaussian
from aib_mm.detection import GaussianBBoxHead
from aib_mm.detection.gaussian_roi_head import RoISamples

METAFILE = CONFIGS / 'metafile.yml'


@pytest.mark.parametrize(('num_a', 'num_z'), [(3, 1), (2, 2)])
def test_monte_carlo_is_the_average_of_single_samples(
    num_a: int, num_z: int, noise: Noise
) -> None:
    model = build(NARROW, **{'neck.test_samples': num_a})
    model.roi_head.bbox_head.test_samples = num_z
    strong_noise(model)
    data = prepared(model, batch(), training=False)
    rois = bbox2roi([proposals().bboxes, proposals(7).bboxes])
    with torch.no_grad():
        together = model.roi_head._bbox_forward(
            model.extract_feat(data['inputs']), rois
        )
        runs = noise.runs(num_a, num_z)
        model.neck.test_samples = model.roi_head.bbox_head.test_samples = 1
        singles = []
        for run in runs:
            noise.replay = iter(run)
            x = model.extract_feat(data['inputs'])
            singles.append(model.roi_head._bbox_forward(x, rois))
    assert len(singles) == num_a * num_z
    for key in ('cls_score', 'bbox_pred'):
        parts = torch.stack([single[key] for single in singles])
        assert parts.std(dim=0).max() > 1e-3, 'the samples must differ'
        torch.testing.assert_close(
            together[key], parts.mean(dim=0), atol=1e-5, rtol=1e-5
        )


def test_average_of_probabilities(noise: Noise) -> None:
    model = build(NARROW, **{'neck.test_samples': 3, 'roi_head.average': 'prob'})
    strong_noise(model)
    data = prepared(model, batch(), training=False)
    rois = bbox2roi([proposals().bboxes] * 2)
    with torch.no_grad():
        x = model.extract_feat(data['inputs'])
        together = model.roi_head._bbox_forward(x, rois)['cls_score'].softmax(dim=-1)
        runs = noise.runs(3, 1)
        model.neck.test_samples = 1
        expected = 0
        for run in runs:
            noise.replay = iter(run)
            x = model.extract_feat(data['inputs'])
            single = model.roi_head._bbox_forward(x, rois)
            expected = expected + single['cls_score'].softmax(dim=-1) / 3
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-5)


def test_losses_are_averaged_over_the_samples_in_training(noise: Noise) -> None:
    """Eq. 12, with the proposals held fixed."""
    model = build(NARROW, **{'neck.train_samples': 2})
    model.roi_head.bbox_head.train_samples = 2
    strong_noise(model)

    def roi_losses() -> dict[str, Tensor]:
        data = model.data_preprocessor(deepcopy(batch()), True)
        x = model.extract_feat(data['inputs'])
        torch.manual_seed(5)  # the RoI sampler's choice
        return model.roi_head.loss(x, [proposals(), proposals(9)], data['data_samples'])

    model.train()
    freeze_norms(model)
    together = roi_losses()
    runs = noise.runs(2, 2)
    model.neck.train_samples = model.roi_head.bbox_head.train_samples = 1
    singles = []
    for run in runs:
        noise.replay = iter(run)
        singles.append(roi_losses())
    # Two draws of a latent share its divergence: it does not depend on the draw.
    for key in ('loss_cls', 'loss_bbox', 'loss_kl', 'loss_vq', 'loss_cmt'):
        parts = torch.stack([single[key] for single in singles])
        torch.testing.assert_close(together[key], parts.mean(), atol=1e-6, rtol=1e-5)
        assert key == 'loss_vq' or parts.std() > 0


def test_divergence_of_both_latents_against_the_equation() -> None:
    model = build(NARROW)
    strong_noise(model)
    head = model.roi_head.bbox_head
    feats = torch.randn(5, 64, 7, 7)
    latents = head.encode(feats, 1)
    losses = head.bottleneck_loss(latents)
    total, nats = 0.0, {}
    for name, latent in latents.items():
        k = latent.mean.shape[1]
        value = 0.0
        for mu, sigma in zip(latent.mean.flatten(), latent.std.flatten(), strict=True):
            value -= 0.5 * (1 + (sigma**2).log() - mu**2 - sigma**2).item()
        total += value / (5 * k)
        nats[name] = value / 5
    assert losses['loss_kl'].item() == pytest.approx(0.01 * total, rel=1e-4)
    for name, value in nats.items():
        assert losses[f'kl_nats_{name}'].item() == pytest.approx(value, rel=1e-4)


def test_without_noise_it_is_the_vanilla_head() -> None:
    """One FC layer that becomes both means, then ReLU and the host's predictors."""
    from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead

    args = dict(in_channels=8, fc_out_channels=16, num_classes=3, roi_feat_size=4)
    with DefaultScope.overwrite_default_scope('mmdet'):
        vanilla = Shared2FCBBoxHead(**args)
        head = GaussianBBoxHead(**args)
    found = head.load_state_dict(vanilla.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert sorted(found.missing_keys) == [
        f'latents.{name}.std.{part}'
        for name in ('cls', 'reg')
        for part in ('bias', 'weight')
    ]
    vanilla.eval(), head.eval()
    x = torch.randn(6, 8, 4, 4)
    for ours, theirs in zip(head(x), vanilla(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    at_start = math.log1p(math.exp(-5))
    assert head.encode(x, 1)['cls'].std.unique().item() == pytest.approx(at_start)


@pytest.fixture(scope='module')
def warm() -> tuple[nn.Module, nn.Module]:
    """Vanilla Faster R-CNN R50, and the aib-qt model with its weights."""
    base = Config.fromfile(CONFIGS / 'faster_rcnn_r50_aib_qt.py')
    vanilla_cfg = Config(
        dict(
            model=dict(
                base.model.copy(),
                neck=base.model.neck.pre_neck,
                roi_head=deepcopy(base.model.roi_head),
            )
        )
    )
    vanilla_cfg.model.roi_head.type = 'StandardRoIHead'
    without_latents(vanilla_cfg)
    torch.manual_seed(0)
    vanilla = build(vanilla_cfg)
    _calibrate(vanilla)
    options = {'neck.test_samples': 0, 'neck.initial_score': 1e-6}
    attended = build(base, **options, **{'roi_head.test_samples': 0})
    return vanilla, attended


def _calibrate(detector: nn.Module) -> None:
    """Let random weights predict many classes and boxes, so that they can differ."""
    detector.backbone.norm_eval = False
    data = prepared(detector, batch(images=8), training=True)
    with torch.no_grad():
        for _ in range(20):  # running statistics with a momentum of 0.1
            detector.backbone(data['inputs'])
        detector.eval()
        x = detector.extract_feat(data['inputs'])
        scores, deltas = detector.rpn_head(x)
        detector.rpn_head.rpn_cls.weight.mul_(2 / scores[0].std())
        detector.rpn_head.rpn_reg.weight.mul_(0.3 / deltas[0].std())
        head = detector.roi_head.bbox_head
        rois = bbox2roi([proposals(50).bboxes] * 8)
        found = detector.roi_head._bbox_forward(x, rois)
        head.fc_cls.weight.mul_(3 / found['cls_score'].std())
        head.fc_reg.weight.mul_(1 / found['bbox_pred'].std())


def test_a_vanilla_detector_loads_with_the_declared_keys_missing(warm: tuple) -> None:
    vanilla, attended = warm
    found = attended.load_state_dict(vanilla.state_dict(), strict=False)
    assert not found.unexpected_keys
    heads = [
        f'roi_head.bbox_head.latents.{latent}.std.{part}'
        for latent in ('cls', 'reg')
        for part in ('weight', 'bias')
    ]
    branch = [
        f'neck.branches.0.{conv}.{part}'
        for conv in ('mean_conv', 'std_conv')
        for part in ('weight', 'bias')
    ]
    assert set(found.missing_keys) == {*heads, *branch, 'neck.quantizer.anchors'}


def test_a_warm_start_predicts_as_the_vanilla_detector(warm: tuple) -> None:
    vanilla, attended = warm
    attended.load_state_dict(vanilla.state_dict(), strict=False)
    data = batch(images=8)
    with torch.no_grad():
        expected = vanilla(**prepared(vanilla, data, training=False), mode='predict')
        found = attended(**prepared(attended, data, training=False), mode='predict')
    labels = torch.cat([sample.pred_instances.labels for sample in expected])
    assert len(labels) > 100 and len(labels.unique()) > 5
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.pred_instances.labels, theirs.pred_instances.labels)
        gap = ours.pred_instances.bboxes - theirs.pred_instances.bboxes
        assert gap.abs().max() < 1e-3


def test_the_metafile_lists_every_config() -> None:
    root = CONFIGS.parents[1]
    index = METAFILE.relative_to(root).as_posix()
    assert index in load(root / 'model-index.yml')['Import']
    models = {entry['Name']: entry for entry in load(METAFILE)['Models']}
    assert set(models) == {path.stem for path in CONFIGS.glob('*.py')}
    assert all((root / entry['Config']).stem == name for name, entry in models.items())


@pytest.mark.parametrize('narrow', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_metafile_has_the_true_number_of_parameters(narrow: bool) -> None:
    for entry in load(METAFILE)['Models']:
        if ('narrow' in entry['Name']) is narrow:
            model = build(CONFIGS / f'{entry["Name"]}.py')
            parameters = sum(parameter.numel() for parameter in model.parameters())
            assert entry['Metadata']['Parameters'] == parameters, entry['Name']


def test_losses_have_the_names_of_the_bottleneck() -> None:
    losses = losses_of(build(NARROW), batch())
    assert {'loss_kl', 'loss_vq', 'loss_cmt', 'loss_cls', 'loss_bbox'} <= set(losses)
    assert {'kl_nats_cls', 'kl_nats_reg'} <= set(losses)


def test_each_cascade_stage_has_its_divergence_and_one_quantises() -> None:
    cfg = Config.fromfile(CONFIGS / 'cascade_rcnn_r50_aib.py')
    cfg.model.neck.quantizer = dict(type='VQAnchorQuantizer', num_anchors=4)
    losses = losses_of(build(cfg), batch())
    assert {f's{stage}.loss_kl' for stage in range(3)} <= set(losses)
    assert [key for key in losses if 'loss_vq' in key] == ['s0.loss_vq']
    model = build(cfg, **{'neck.test_samples': 2})
    with torch.no_grad():
        found = model(**prepared(model, batch(), training=False), mode='predict')
        outs = model(**prepared(model, batch(), training=False), mode='tensor')
    assert len(found) == 2 and len(outs[0]) == 2


def test_proposals_given_in_advance_and_empty_ones() -> None:
    model = build(NARROW)
    data = prepared(model, batch(), training=False)
    for sample, count in zip(data['data_samples'], (12, 0), strict=True):
        sample.proposals = proposals(count)
    with torch.no_grad():
        found = model(**data, mode='predict')
        assert len(found[0].pred_instances) > 0 == len(found[1].pred_instances)
        for sample in data['data_samples']:
            sample.proposals = proposals(0)
        found = model(**data, mode='predict')
    assert [len(sample.pred_instances) for sample in found] == [0, 0]


def test_no_proposal_in_training_gives_finite_losses() -> None:
    model = build(NARROW)
    model.rpn_head = None
    data = prepared(model, batch(objects=0), training=True)
    for sample in data['data_samples']:
        sample.proposals = proposals(0)
    losses = model(**data, mode='loss')
    assert losses['loss_kl'].item() == 0
    assert all(value.isfinite().all() for value in losses.values())


def test_class_agnostic_boxes() -> None:
    model = build(NARROW, **{'roi_head.bbox_head.reg_class_agnostic': True})
    losses_of(model, batch())['loss_bbox'].backward()
    data = prepared(model, batch(), training=False)
    rois = bbox2roi([proposals().bboxes] * 2)
    with torch.no_grad():
        x = model.extract_feat(data['inputs'])
        assert model.roi_head._bbox_forward(x, rois)['bbox_pred'].shape == (24, 4)
        model(**data, mode='predict')


@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize('count', [1, 2])
def test_mask_heads(shared: bool, count: int) -> None:
    """With RoI features of their own, or those of the box head's first sample."""
    cfg = Config.fromfile(NARROW)
    head = cfg.model.roi_head
    head.mask_head = dict(
        type='FCNMaskHead',
        num_convs=1,
        in_channels=64,
        conv_out_channels=8,
        num_classes=10,
        loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
    )
    head.mask_roi_extractor = None if shared else deepcopy(head.bbox_roi_extractor)
    cfg.model.train_cfg.rcnn.mask_size = 14
    cfg.model.test_cfg.rcnn.update(mask_thr_binary=0.5, score_thr=0.0)
    model = build(cfg, **{'neck.train_samples': count, 'neck.test_samples': count})
    losses = losses_of(model, batch())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert model.roi_head.mask_head.conv_logits.weight.grad.abs().sum() > 0
    with torch.no_grad():
        found = model(**prepared(model, batch(), training=False), mode='predict')
        outs = model(**prepared(model, batch(), training=False), mode='tensor')
    instances = found[0].pred_instances
    assert instances.masks.shape == (len(instances), SIZE, SIZE) and len(instances)
    assert outs[0][2].shape[1:] == (10, 14, 14)


def test_sure_samples_that_disagree_have_finite_scores() -> None:
    """The mean of probabilities, as logits that a cascade may average on."""
    model = build(NARROW, **{'roi_head.average': 'prob'})
    scores = torch.tensor([[[300.0, 0.0, 0.0]], [[0.0, 300.0, 0.0]]])
    samples = RoISamples(scores, None, {}, torch.zeros(1))
    logits = model.roi_head._averaged(samples)['cls_score']
    assert logits.isfinite().all()
    expected = torch.tensor([[0.5, 0.5, 0.0]])
    torch.testing.assert_close(logits.softmax(dim=-1), expected)


def test_noise_on_the_features_is_refused() -> None:
    model = build(NARROW, **{'neck.noise': dict(type='AdditiveNoise')})
    with pytest.raises(ValueError, match=r'GaussianRoIHead.*neck\.noise=None'):
        losses_of(model, batch())


def test_test_time_augmentation_runs_the_host_wrapper() -> None:
    from mmdet.models import DetTTAModel

    cfg = Config.fromfile(NARROW)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmdet'):
        tta = DetTTAModel(
            module=cfg.model,
            tta_cfg=ConfigDict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=9),
        )
    tta.eval()
    data = batch(images=1)
    flipped = deepcopy(data)
    flipped['inputs'] = [image.flip(-1) for image in flipped['inputs']]
    for part, is_flipped in ((data, False), (flipped, True)):
        for sample in part['data_samples']:
            info = dict(flip=is_flipped, flip_direction='horizontal')
            sample.set_metainfo(info)
    both = {key: [data[key], flipped[key]] for key in data}
    with torch.no_grad():
        found = tta.test_step(both)
    assert len(found) == 1 and 'pred_instances' in found[0]


def test_the_rpn_runs_once_whatever_the_samples() -> None:
    model = build(NARROW, **{'neck.test_samples': 4})
    calls: dict[str, int] = {}
    parts = ('backbone', 'neck.pre_neck', 'rpn_head', 'roi_head.bbox_roi_extractor')
    for name in parts:
        model.get_submodule(name).register_forward_hook(_counter(calls, name))
    with torch.no_grad():
        model(**prepared(model, batch(), training=False), mode='predict')
    assert calls == dict.fromkeys(parts, 1)


def _counter(calls: dict[str, int], name: str) -> Callable[..., None]:
    def count(*_: Any) -> None:
        calls[name] = calls.get(name, 0) + 1

    return count


def test_tensor_mode_draws_nothing_in_the_heads() -> None:
    model = build(NARROW, **{'neck.test_samples': 0})
    strong_noise(model)
    data = prepared(model, batch(), training=False)
    with torch.no_grad():
        first, second = (model(**data, mode='tensor') for _ in range(2))
    for one, other in zip(first[0], second[0], strict=True):
        assert torch.equal(one, other)


def test_no_sampling_is_not_random_and_sampling_is() -> None:
    model = build(NARROW)
    strong_noise(model)
    data = prepared(model, batch(), training=False)
    rois = bbox2roi([proposals().bboxes] * 2)

    def scores() -> Tensor:
        with torch.no_grad():
            x = model.extract_feat(data['inputs'])
            return model.roi_head._bbox_forward(x, rois)['cls_score']

    assert not torch.equal(scores(), scores())
    model.neck.test_samples = model.roi_head.bbox_head.test_samples = 0
    assert torch.equal(scores(), scores())


def four_images() -> dict[str, list]:
    return batch(images=4)


def with_fixed_noise(model: nn.Module) -> None:
    """Every draw is one std above the mean: processes draw noise of their own."""
    freeze_norms(model)
    gaussian.sample = lambda mean, std, num_samples: (mean + std).unsqueeze(0)


@pytest.mark.slow
@pytest.mark.parametrize('quantised', ['', '_qt'])
def test_two_processes_average_the_gradients_of_half_batches(quantised: str) -> None:
    cfg = Config.fromfile(
        CONFIGS / f'faster_rcnn_r18-narrow_aib{quantised}_digitscenes.py'
    )
    parity = gradient_parity(cfg, four_images, with_fixed_noise, by_part=True)
    assert parity.relative <= 1e-5 and parity.largest > 0


def test_a_box_head_without_latents_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"Shared2FCBBoxHead does not have.*'GaussianBBoxHead'"
    ):
        build(without_latents(Config.fromfile(NARROW)))


def test_a_foreign_roi_head_cannot_train_the_box_head() -> None:
    model = build(NARROW, **{'roi_head.type': 'StandardRoIHead'})
    with torch.no_grad():
        model(**prepared(model, batch(), training=False), mode='predict')
    with pytest.raises(RuntimeError, match=r"roi_head=dict\(type='GaussianRoIHead'\)"):
        losses_of(model, batch())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'roi_head.average': 'mean'}, r"average.*'logit', 'prob'.*'mean'"),
        ({'roi_head.test_samples': -1}, r'test_samples.*-1'),
        ({'roi_head.bbox_head.train_samples': 0}, r'train_samples.*0'),
        (
            {
                'roi_head.bbox_head.aib_loss': dict(
                    type='AIBLoss', kl=dict(type='AdversarialKL', latent_dim=7)
                )
            },
            r'latent_dim=7.*latent_dim=256',
        ),
    ],
)
def test_impossible_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(NARROW, **changes)


def test_the_parts_are_registered_for_mmdet_and_by_scope() -> None:
    assert aib_mm.hosts.status()['mmdet'].state == 'registered'
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(dict(type='aib_mm.GaussianBBoxHead', num_classes=3))
    assert isinstance(head, GaussianBBoxHead)
