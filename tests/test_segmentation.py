"""Segmentors with a latent per pixel: samples, losses, warm starts, maps, cost."""

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from ddp_parity import freeze_norms, gradient_parity
from mmengine import load
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from noise_replay import Noise
from reference import kl_eq19
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip('mmseg')

from mmseg.models.decode_heads import FCNHead
from narrow_segmentor import (
    CONFIGS,
    NARROW,
    NARROW_QT,
    SIZE,
    VANILLA,
    batch,
    build,
    losses_of,
    predicted,
    prepared,
    strong_noise,
)

from aib_mm import gaussian
from aib_mm.attention import AIBAttention
from aib_mm.encoders import Latent
from aib_mm.segmentation import AIBDecodeHead

# Heads build their losses by name.
pytestmark = pytest.mark.usefixtures('mmseg_scope')


@pytest.mark.parametrize('average', ['logit', 'prob'])
@pytest.mark.parametrize(('num_a', 'num_z'), [(2, 1), (2, 3)])
def test_monte_carlo_is_the_average_of_single_samples(
    num_a: int, num_z: int, average: str, noise: Noise
) -> None:
    samples = {'neck.test_samples': num_a, 'decode_head.test_samples': num_z}
    model = build(NARROW, **samples, **{'decode_head.average': average})
    strong_noise(model)
    data = prepared(model, batch(), training=False)
    head = model.decode_head
    metas = [dict(img_shape=(SIZE // 2, SIZE // 2))] * 2  # the logits' own size

    def run() -> Tensor:
        x = model.extract_feat(data['inputs'])
        return head.predict(x, metas, model.test_cfg)

    with torch.no_grad():
        together = run()
        runs = noise.runs(num_a, num_z)
        model.neck.test_samples = head.test_samples = 1
        singles = []
        for drawn in runs:
            noise.replay = iter(drawn)
            singles.append(run())
    parts = torch.stack(singles)
    assert len(parts) == num_a * num_z
    assert parts.std(dim=0).max() > 1e-2, 'the samples must differ'
    if average == 'prob':
        together, parts = together.softmax(dim=1), parts.softmax(dim=2)
    torch.testing.assert_close(together, parts.mean(dim=0), atol=1e-5, rtol=1e-5)


# Of these only cross-entropy is a mean over all pixels of a batch.
LOSSES = [
    dict(type='CrossEntropyLoss', loss_weight=0.5),
    dict(type='LovaszLoss', reduction='none', loss_weight=0.7),
    dict(type='DiceLoss', loss_weight=1.0),
]
OHEM = dict(type='OHEMPixelSampler', thresh=None, min_kept=500)


@pytest.mark.parametrize(
    'changes',
    [{}, {'decode_head.loss_decode': LOSSES}, {'decode_head.sampler': OHEM}],
    ids=['one', 'several', 'ohem'],
)
def test_losses_are_averaged_over_the_samples_in_training(
    changes: dict, noise: Noise
) -> None:
    """Eq. 12."""
    samples = {'neck.train_samples': 2, 'decode_head.train_samples': 2}
    model = build(NARROW_QT, **samples, **changes, **{'decode_head.dropout_ratio': 0})
    strong_noise(model)
    head = model.decode_head
    data = prepared(model, batch(), training=True)
    freeze_norms(model)

    def run() -> dict[str, Tensor]:
        x = model.extract_feat(data['inputs'])
        return head.loss(x, data['data_samples'], model.train_cfg)

    together = run()
    runs = noise.runs(2, 2)
    model.neck.train_samples = head.train_samples = 1
    singles = []
    for drawn in runs:
        noise.replay = iter(drawn)
        singles.append(run())
    names = {'loss_ce', 'loss_kl', 'loss_vq', 'loss_cmt'}
    if 'decode_head.loss_decode' in changes:
        names |= {'loss_lovasz', 'loss_dice'}
    assert names == {key for key in together if 'loss' in key}
    for key in (*names, 'acc_seg'):
        parts = torch.stack([single[key] for single in singles])
        torch.testing.assert_close(together[key], parts.mean(0), atol=1e-6, rtol=1e-5)
        assert parts.std() > 0 or key == 'loss_vq', key


def test_divergence_against_the_equation() -> None:
    """Eq. 19 over the channels, averaged over pixels, batch and attention samples."""
    model = build(NARROW, **{'neck.train_samples': 2})
    strong_noise(model)
    data = prepared(model, batch(), training=True)
    freeze_norms(model)
    head = model.decode_head
    x = model.extract_feat(data['inputs'])
    losses = head.loss(x, data['data_samples'], model.train_cfg)
    latent = head.encode(x.samples, 1)
    assert latent.mean.shape == latent.std.shape == (4, 48, 32, 32)
    rows = [part.movedim(1, -1).reshape(-1, 48) for part in (latent.mean, latent.std)]
    some = range(0, len(rows[0]), 97)
    few = Latent(latent.samples, *(row[some].view(len(some), 48, 1, 1) for row in rows))
    expected = sum(kl_eq19(rows[0][i], rows[1][i]) for i in some) / len(some)
    assert head.aib_loss(few)['loss_kl'].item() == pytest.approx(0.01 * expected, 1e-4)
    whole = gaussian.kl_to_standard_normal(latent.mean, latent.std)
    torch.testing.assert_close(losses['loss_kl'], 0.01 * whole)
    torch.testing.assert_close(losses['kl_nats'], 48 * whole)


def declared_new(model: nn.Module) -> set[str]:
    """What a vanilla checkpoint lacks, by the declarations of the model's parts."""
    return {
        '.'.join(filter(None, (prefix, key)))
        for prefix, module in model.named_modules()
        for child in getattr(module, 'vanilla_lacks', ())
        for key in _state_keys(module, child)
    }


def _state_keys(module: nn.Module, child: str) -> list[str]:
    part = getattr(module, child)
    return [] if part is None else [f'{child}.{key}' for key in part.state_dict()]


def warm_start(vanilla: Path, attended: Path, size: int, classes: int) -> None:
    """Vanilla weights in, vanilla predictions out (``test_samples=0``)."""
    torch.manual_seed(0)
    source = build(vanilla, size)
    data = batch(size=size, classes=classes)
    for module in source.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # running statistics are then this batch's
    with torch.no_grad():
        source(**prepared(source, data, training=True), mode='loss')
    source.decode_head.conv_seg.weight.data.mul_(2 / predicted(source, data)[0].std())
    model = build(
        attended,
        size,
        **{
            'neck.initial_score': 1e-6,
            'neck.init_cfg': dict(type='Constant', layer='Conv2d', val=0),
            'neck.test_samples': 0,
            'decode_head.test_samples': 0,
        },
    )
    found = model.load_state_dict(source.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert set(found.missing_keys) == declared_new(model)
    groups = {key.rpartition('.')[0] for key in found.missing_keys}
    assert groups == {
        'decode_head.latent.std',
        *(f'neck.branches.{i}.{g}_conv' for i in range(4) for g in ('mean', 'std')),
        *(['neck.quantizer'] if model.neck.quantizer else []),
    }
    logits, labels = predicted(model, data)
    expected, truth = predicted(source, data)
    assert len(truth.unique()) > 3, 'labels must be able to differ'
    assert (labels == truth).float().mean() >= 0.999
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize('attended', [NARROW, NARROW_QT], ids=['aib', 'qt'])
def test_a_warm_start_predicts_as_the_vanilla_model(attended: Path) -> None:
    warm_start(VANILLA, attended, SIZE, 11)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['upernet_beit_aib', 'upernet_beit_aib_qt'])
def test_a_warm_start_in_full_size(name: str) -> None:
    warm_start(CONFIGS / 'upernet_beit.py', CONFIGS / f'{name}.py', 512, 150)


@pytest.mark.parametrize('modulation', ['bias', 'scale'])
def test_other_modulations_and_the_adversarial_divergence(modulation: str) -> None:
    kl = dict(type='AdversarialKL', latent_dim=48)
    loss = dict(type='AIBLoss', kl=kl)
    changes = {'neck.modulation': modulation, 'decode_head.aib_loss': loss}
    model = build(NARROW, **changes)
    assert {key.split('.')[1] for key in declared_new(model)} >= {'aib_loss', 'latent'}
    losses = losses_of(model, batch())
    assert losses['decode.loss_disc'].item() == pytest.approx(2 * math.log(2), abs=0.3)
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    kl['latent_dim'] = 47
    with pytest.raises(ValueError, match=r'latent_dim=47\) cannot judge .*=48'):
        build(NARROW, **changes)


def test_a_crop_without_labels_gives_finite_losses() -> None:
    data = batch()
    for sample in data['data_samples']:
        sample.gt_sem_seg.data.fill_(255)
    losses = losses_of(build(NARROW_QT, **{'decode_head.sampler': OHEM}), data)
    assert all(value.isfinite().all() for value in losses.values())
    assert losses['decode.loss_ce'].sum() == 0 < losses['decode.loss_kl']


def test_one_score_per_visual_token_at_every_level() -> None:
    model = build(NARROW, **{'neck.test_samples': 2})
    x = model.extract_feat(prepared(model, batch(), training=False)['inputs'])
    assert [maps.mean.shape for maps in x.attention] == [(2, 1, 16, 16)] * 4
    assert [maps.samples.shape for maps in x.attention] == [(2, 2, 1, 16, 16)] * 4
    assert not torch.equal(x.attention[0].mean, x.attention[3].mean)
    sizes = [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert [tuple(maps.shape) for maps in x.samples] == [(4, 64, *s) for s in sizes]


@pytest.mark.parametrize('level', [-1, 1])
def test_one_level_gives_the_map_of_all(level: int) -> None:
    own = build(NARROW, **{'neck.test_samples': 0})
    one = build(NARROW, **{'neck.test_samples': 0, 'neck.map_level': level})
    weights = own.state_dict()
    for key in list(weights):
        if 'branches' in key:
            value = weights.pop(key)
            kept = f'neck.branches.{level % 4}.'
            if key.startswith(kept):
                weights[key.replace(kept, 'neck.branches.0.')] = value
    one.load_state_dict(weights)
    images = prepared(own, batch(), training=False)['inputs']
    one.eval()
    with torch.no_grad():
        maps = one.extract_feat(images).attention
        expected = own.extract_feat(images).attention[level].mean
        feats = one.backbone(images)
        attended = one.neck.post_neck(tuple(f * (1 + expected) for f in feats))
        found = one.extract_feat(images)
    assert len(maps) == 4
    for level_maps in maps:
        torch.testing.assert_close(level_maps.mean, expected)
    torch.testing.assert_close(tuple(found), attended)
    losses = losses_of(one, batch())
    one.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in one.parameters() if p.requires_grad)


def test_what_sees_no_samples_sees_the_features_themselves() -> None:
    """The auxiliary head is the host's; it gets the one sample."""
    model = build(NARROW)
    data = prepared(model, batch(), training=True)
    x = model.extract_feat(data['inputs'])
    assert x.samples[1] is x[1]
    losses = model.auxiliary_head.loss(x, data['data_samples'], model.train_cfg)
    assert set(losses) == {'loss_ce', 'acc_seg'}
    assert type(model.auxiliary_head) is FCNHead


def test_a_price_of_the_auxiliary_head_alone_is_refused() -> None:
    aux = dict(type='AIBFCNHead', aib_loss=dict(type='AIBLoss', attention_price=0.5))
    model = build(NARROW, **{'neck.prior_std': 0.2, 'auxiliary_head': aux})
    with pytest.raises(ValueError, match=r'attention_price=0\.5, .* is never paid'):
        losses_of(model, batch())


def test_tensor_mode_draws_nothing() -> None:
    model = build(NARROW_QT)
    strong_noise(model)
    data = prepared(model, batch(), training=False)
    with torch.no_grad():
        first, second = (model(**data, mode='tensor') for _ in range(2))
        model.neck.test_samples = model.decode_head.test_samples = 0
        x = model.extract_feat(data['inputs'])
        metas = [dict(img_shape=(32, 32))] * 2
        mean = model.decode_head.predict(x, metas, model.test_cfg)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, mean)


def no_noise(**test_cfg: Any) -> nn.Module:
    samples = {'neck.test_samples': 0, 'decode_head.test_samples': 0}
    model = build(NARROW, **samples, test_cfg=test_cfg)
    model.decode_head.conv_seg.weight.data.mul_(100)
    return model


def test_slide_inference() -> None:
    window = (SIZE, SIZE)
    model = no_noise(mode='slide', crop_size=window, stride=(32, 32))
    data = batch(images=1, size=96)
    logits, labels = predicted(model, data)
    assert logits.shape == (1, 11, 96, 96) and labels.shape == (1, 96, 96)
    data['inputs'][0] = data['inputs'][0][:, :SIZE, :SIZE]
    data['data_samples'][0].set_metainfo(dict(img_shape=window, ori_shape=window))
    model.test_cfg.mode = 'whole'
    # The corner is in the first window alone.
    corner = predicted(model, data)[0][..., :32, :32]
    torch.testing.assert_close(logits[..., :32, :32], corner)


def test_test_time_augmentation() -> None:
    model = no_noise(mode='whole')
    data = batch(images=1)
    mirrored = deepcopy(data)
    mirrored['inputs'][0] = mirrored['inputs'][0].flip(-1)
    views = [predicted(model, one)[0] for one in (data, mirrored)]
    expected = (views[0].softmax(1) + views[1].flip(-1).softmax(1)).argmax(1)
    flip = dict(flip=True, flip_direction='horizontal')
    mirrored['data_samples'][0].set_metainfo(flip)
    data['data_samples'][0].set_metainfo(dict(flip=False))
    with DefaultScope.overwrite_default_scope('mmseg'):
        tta = MODELS.build(dict(type='SegTTAModel', module=model))
    both = {key: [data[key], mirrored[key]] for key in data}
    with torch.no_grad():
        found = tta.test_step(both)[0].pred_sem_seg.data
    assert len(expected.unique()) > 3
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'neck.map_level': 4}, r'map_level=4, but there are 4 levels'),
        ({'neck.map_level': -5}, r'map_level=-5, but there are 4 levels'),
    ],
)
def test_impossible_levels(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(NARROW, **changes)


def test_levels_of_one_size_for_one_map() -> None:
    neck = AIBAttention([4, 4], map_level=0)
    with pytest.raises(ValueError, match=r'map_level=0 cannot modulate levels of the'):
        neck([torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)])
    with pytest.raises(ValueError, match=r'map_level=2, but there are 2 levels'):
        AIBAttention(4, map_level=2)([torch.randn(1, 4, 8, 8)] * 2)


def test_the_metafile_lists_every_config() -> None:
    root = CONFIGS.parents[1]
    index = 'configs/mmseg/metafile.yml'
    assert index in load(root / 'model-index.yml')['Import']
    metafile = load(root / index)
    models = {entry['Name']: entry for entry in metafile['Models']}
    assert set(models) == {path.stem for path in CONFIGS.glob('*.py')}
    (collection,) = metafile['Collections']
    for name, entry in models.items():
        assert (root / entry['Config']).stem == name
        assert entry['In Collection'] == collection['Name']
        if 'narrow' in name:
            model = build(root / entry['Config'])
            parameters = sum(p.numel() for p in model.parameters())
            assert entry['Metadata']['Parameters'] == parameters, name


def giga_macs(model: nn.Module, training: bool = False) -> float:
    """Multiply-accumulates of one image at 512x512, in units of 10^9."""
    model.to('meta').train(training)
    head = model.decode_head
    with FlopCounterMode(display=False) as counter:
        x = model.extract_feat(torch.empty(2, 3, 512, 512, device='meta'))
        if not training:
            head.predict(x, [dict(img_shape=(512, 512))] * 2, model.test_cfg)
        elif isinstance(head, AIBDecodeHead):
            head.decode(head.encode(x.samples, 1)).sum().backward()
        else:
            head(x).sum().backward()
    return counter.get_total_flops() / 4e9  # two images, two operations each


@pytest.mark.slow
def test_operations_of_the_full_size_model() -> None:
    """The figures in docs/performance.md."""
    vanilla = build(CONFIGS / 'upernet_beit.py', 512)
    model = build(CONFIGS / 'upernet_beit_aib.py', 512)
    wide = build(
        CONFIGS / 'upernet_beit_aib.py', 512, **{'decode_head.std_kernel_size': 3}
    )
    wide.neck.test_samples = 1
    assert giga_macs(vanilla) == pytest.approx(605.0, abs=0.05)
    assert giga_macs(wide) == pytest.approx(952.9, abs=0.05)
    for num_samples, expected in ((0, 605.0), (1, 643.6), (2, 1194.7)):
        model.neck.test_samples = num_samples
        model.decode_head.test_samples = min(num_samples, 1)
        assert giga_macs(model) == pytest.approx(expected, abs=0.05)
    grouped = build(
        CONFIGS / 'upernet_beit_aib.py', 512, **{'decode_head.std_groups': 4}
    )
    grouped.neck.test_samples = 1
    assert giga_macs(grouped) == pytest.approx(614.7, abs=0.05)
    assert giga_macs(vanilla, training=True) == pytest.approx(1814.3, abs=0.05)
    assert giga_macs(model, training=True) == pytest.approx(1930.3, abs=0.05)


def with_fixed_noise(model: nn.Module) -> None:
    """Processes draw their own noise; parity is about everything else."""
    freeze_norms(model)
    gaussian.sample = lambda mean, std, num_samples: (mean + std).unsqueeze(0)
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0


def four_images() -> dict[str, list]:
    return batch(images=4)


@pytest.mark.slow
@pytest.mark.parametrize('config', [NARROW, NARROW_QT], ids=['aib', 'qt'])
def test_two_processes_have_the_gradients_of_one(config: Path) -> None:
    cfg = Config.fromfile(config)
    parity = gradient_parity(cfg, four_images, prepare=with_fixed_noise)
    assert parity.gap <= 2e-6 * parity.largest, 'more than rounding'
