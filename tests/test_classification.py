"""VGG, the classification head, and the classifiers that the configs make of them."""

import itertools
from pathlib import Path

import pytest
import torch
from mmengine import Config, load
from mmengine.analysis import get_model_complexity_info
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch.utils.flop_counter import FlopCounterMode

from aib_mm.attention import AIBAttention
from aib_mm.classification import AIBClsHead, VGGBlocks
from aib_mm.interpret import record_attention
from aib_mm.modulation import MODULATIONS

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmpretrain'
DIMS = 8
GAUSSIAN = dict(type='GaussianEncoder', in_features=6)
NOISE = dict(type='NoiseEncoder', in_features=6)
ADVERSARIAL = dict(type='AIBLoss', kl=dict(type='AdversarialKL', latent_dim=DIMS))


def head(encoder: dict = GAUSSIAN, **kwargs) -> AIBClsHead:
    return AIBClsHead(num_classes=3, encoder=encoder, latent_dim=DIMS, **kwargs)


def labels(count: int = 4) -> list[DataSample]:
    return [DataSample().set_gt_label(i % 3) for i in range(count)]


def feats(batch: int = 4) -> tuple[torch.Tensor]:
    return (torch.randn(batch, 6, 5, 5),)


def classifier(name: str, **overrides) -> torch.nn.Module:
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.merge_from_dict(overrides)
    return MODELS.build(cfg.model)


def image_size(name: str) -> int:
    return 224 if name.endswith('_cub') else 32


def shipped():
    """Every config; a step of the largest networks takes seconds and gigabytes."""
    for path in sorted(CONFIGS.glob('*.py')):
        large = path.stem.startswith('wrn28-10') or path.stem.endswith('_cub')
        marks = [pytest.mark.slow] if large else []
        yield pytest.param(path, marks=marks, id=path.stem)


# --- VGG --------------------------------------------------------------------------


def test_blocks_have_the_resolutions_that_give_the_papers_cost() -> None:
    extractor = VGGBlocks(blocks=(1, 2, 3), width=1 / 16)
    encoder = VGGBlocks(blocks=(4, 5, 6), width=1 / 16, pointwise=True)
    (x,) = extractor(torch.randn(2, 3, 32, 32))
    assert x.shape == (2, extractor.out_channels, 16, 16)
    assert encoder(x)[0].shape == (2, encoder.out_channels, 1, 1)


def test_vanilla_is_extractor_and_encoder_put_together() -> None:
    whole = VGGBlocks(width=1 / 16, pointwise=True).eval()
    front = VGGBlocks(blocks=(1, 2, 3), width=1 / 16).eval()
    back = VGGBlocks(blocks=(4, 5, 6), width=1 / 16, pointwise=True).eval()
    for part in (front, back):
        missing, _ = part.load_state_dict(whole.state_dict(), strict=False)
        assert not missing
    assert whole.state_dict().keys() == (
        front.state_dict().keys() | back.state_dict().keys()
    )
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(back(front(x)[0])[0], whole(x)[0])
    # As a neck it takes the last of a backbone's maps.
    torch.testing.assert_close(back((x, *front(x)))[0], whole(x)[0])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(blocks=(1, 3)), r'consecutive numbers, got \[1, 3\]'),
        (dict(blocks=()), r'consecutive numbers, got \[\]'),
        (dict(blocks=(6, 7)), r'among \[1, 2, 3, 4, 5, 6\], got \[6, 7\]'),
        (dict(width=0.001), 'at least one channel, got 0.001'),
    ],
)
def test_bad_blocks(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VGGBlocks(**arguments)


# --- cost of the full-size models -------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'parameters', 'single', 'sampled'),
    [
        ('vgg16_cifar10', 19.71, 3.786, 3.786),
        ('vgg16_cifar100', 19.75, 3.786, 3.786),
        ('vgg16_aib_cifar10', 20.04, 3.788, 9.821),
        ('vgg16_aib_cifar100', 20.06, 3.788, 9.821),
        ('vgg16_aib_qt_cifar10', 20.04, 3.788, 9.821),
        ('vgg16_aib_qt_cifar100', 20.06, 3.788, 9.821),
        ('vgg16_aib_released_cifar10', 20.04, 3.787, 9.820),
    ],
)
def test_multiply_accumulates_and_parameters(name, parameters, single, sampled):
    model = classifier(name).eval()
    image = torch.randn(1, 3, 32, 32)

    def giga_macs(mode: str) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(image, mode=mode)
        return counter.get_total_flops() / 2e9

    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(parameters, abs=0.005)
    assert giga_macs('tensor') == pytest.approx(single, abs=0.0006)
    assert giga_macs('predict') == pytest.approx(sampled, abs=0.0006)


def test_the_hosts_counter_sees_one_pass() -> None:
    model = classifier('vgg16_aib_cifar10').eval()
    info = get_model_complexity_info(model, (3, 32, 32), show_table=False)
    assert info['flops'] / 1e9 == pytest.approx(3.79, abs=0.015)


# --- the head ---------------------------------------------------------------------


def test_prediction_is_the_mean_of_logits_over_all_samples() -> None:
    neck = AIBAttention(6, test_samples=3).eval()
    for average in ('logit', 'prob'):
        module = head(test_samples=2, average=average).eval()
        attended = neck(feats())
        torch.manual_seed(1)
        predictions = module.predict(attended)
        torch.manual_seed(1)
        logits = []
        z = module.encoder(attended.samples[0], 2, blocks=3).samples
        for l_z, l_a in itertools.product(range(2), range(3)):
            logits.append(module.decoder(z[l_z].view(3, 4, DIMS)[l_a]))
        stacked = torch.stack(logits)
        expected = (
            stacked.mean(0).softmax(-1)
            if average == 'logit'
            else stacked.softmax(-1).mean(0)
        )
        scores = torch.stack([p.pred_score for p in predictions])
        torch.testing.assert_close(scores, expected)
        assert [p.pred_label.item() for p in predictions] == expected.argmax(1).tolist()


def test_monte_carlo_equals_single_sample_runs_with_the_same_noise() -> None:
    neck, module = AIBAttention(6, test_samples=4).eval(), head(test_samples=0).eval()
    attended = neck(feats())
    scores = torch.stack([p.pred_score for p in module.predict(attended)])
    singles = [
        module.decoder(module.encoder(x, 0).samples[0])
        for x in attended.samples[0].chunk(4)
    ]
    expected = torch.stack(singles).mean(0).softmax(-1)
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=0)


def test_training_averages_the_loss_and_optionally_the_logits() -> None:
    neck = AIBAttention(6, train_samples=2)
    attended, targets = neck(feats()), labels()
    gt = torch.cat([t.gt_label for t in targets])
    for train_average in ('loss', 'logit'):
        module = head(train_samples=3, train_average=train_average)
        torch.manual_seed(1)
        loss = module.loss(attended, targets)['loss_cls']
        torch.manual_seed(1)
        z = module.encoder(attended.samples[0], 3, blocks=2).samples
        logits = module.decoder(z).view(6, 4, 3)
        if train_average == 'logit':
            expected = torch.nn.functional.cross_entropy(logits.mean(0), gt)
        else:
            expected = torch.stack(
                [torch.nn.functional.cross_entropy(one, gt) for one in logits]
            ).mean()
        torch.testing.assert_close(loss, expected)


def test_tensor_mode_is_not_random_and_equals_no_samples() -> None:
    model = classifier('vgg16-narrow_aib_qt_digitscenes').eval()
    images = torch.randn(4, 3, 32, 32)
    logits = model(images)
    assert torch.equal(model(images), logits)
    model.neck.test_samples = model.head.test_samples = 0
    state = torch.get_rng_state()
    scores = torch.stack([p.pred_score for p in model(images, mode='predict')])
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(logits.softmax(-1), scores)


def test_predictions_carry_information_and_leave_the_attention_to_its_hook() -> None:
    neck, module = AIBAttention(6, test_samples=2).eval(), head().eval()
    attended = neck(feats())
    for i, prediction in enumerate(module.predict(attended)):
        assert 'attention_mean' not in prediction and 'attention_std' not in prediction
        z = module.encoder(attended.samples[0].view(2, 4, 6, 5, 5)[:, i], 0)
        kl = 0.5 * (z.mean**2 + z.std**2 - 1) - z.std.log()
        torch.testing.assert_close(prediction.kl_nats, kl.sum(1).mean())


def test_without_attention_it_is_a_variational_bottleneck() -> None:
    module = head()
    losses = module.loss(feats(), labels())
    assert set(losses) == {'loss_cls', 'loss_kl', 'kl_nats'}


def test_accuracy_in_training_counts_every_sample() -> None:
    module = head(cal_acc=True, train_samples=2)
    torch.nn.init.zeros_(module.decoder.layers[-1].weight)
    module.decoder.layers[-1].bias.data = torch.tensor([1.0, 0.0, 0.0])
    losses = module.loss(AIBAttention(6)(feats(3)), labels(3))
    assert losses['accuracy_top-1'][0].item() == pytest.approx(100 / 3)


def combinations():
    kinds = [
        ('gaussian', GAUSSIAN, None, None),
        ('gaussian-adversarial', GAUSSIAN, None, ADVERSARIAL),
        ('additive', NOISE, 'AdditiveNoise', ADVERSARIAL),
        ('propagated', NOISE, 'PropagatedNoise', ADVERSARIAL),
    ]
    for how, kind, quantised in itertools.product(MODULATIONS, kinds, (False, True)):
        name, _, noise, _ = kind
        if how == 'replace' and noise:  # refused: see test_price.py
            continue
        _, *rest = kind
        yield pytest.param(how, *rest, quantised, id=f'{how}-{name}-{quantised}')


@pytest.mark.parametrize(
    ('how', 'encoder', 'noise', 'aib_loss', 'quantised'), list(combinations())
)
def test_every_valid_combination_trains_every_parameter(
    how, encoder, noise, aib_loss, quantised
) -> None:
    neck = AIBAttention(
        6,
        modulation=how,
        quantizer=dict(type='VQAnchorQuantizer', num_anchors=4) if quantised else None,
        noise=noise and dict(type=noise),
        train_samples=2,
    )
    torch.nn.init.constant_(neck.branches[0].std_conv.bias, 4.0)
    channels = neck.modulations[0].out_channels
    one_sample = dict(test_samples=1) if encoder is NOISE else {}
    module = head(dict(encoder, in_features=channels), aib_loss=aib_loss, **one_sample)
    losses = module.loss(neck(feats()), labels())
    assert ('loss_vq' in losses) == quantised
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    parts = torch.nn.ModuleDict(dict(neck=neck, head=module))
    for name, parameter in parts.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    predictions = module.eval().predict(neck.eval()(feats()))
    assert len(predictions) == 4


def test_it_works_behind_the_hosts_own_neck() -> None:
    pooling = MODELS.build(dict(type='GlobalAveragePooling'))
    torch.manual_seed(1)
    module, x = head(), feats()
    attention = AIBAttention(6, post_neck=dict(type='GlobalAveragePooling'))
    for pooled in (pooling(x), attention(x)):
        losses = module.loss(pooled, labels())
        assert losses['loss_cls'].isfinite()
        assert len(module.predict(pooled)) == 4


def test_a_whole_model_trains_under_autocast() -> None:
    model = classifier('vgg16-narrow_aib_qt_digitscenes')
    images, targets = torch.randn(4, 3, 32, 32), labels()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(images, targets, mode='loss')
    for name in ('loss_kl', 'loss_vq', 'loss_cmt'):
        assert losses[name].dtype == torch.float32
    model.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(average='mean'), "average must be one of .* got 'mean'"),
        (dict(train_average='prob'), "train_average must be one of .* got 'prob'"),
        (dict(test_samples=-1), 'test_samples must be an integer >= 0, got -1'),
        (dict(encoder=NOISE, test_samples=1), 'GaussianKL needs the density of z'),
        (
            dict(encoder=NOISE, aib_loss=ADVERSARIAL),
            'NoiseEncoder draws L_z in the neck, .*test_samples=4',
        ),
    ],
)
def test_bad_heads(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head(**arguments)


def test_encoder_and_noise_must_belong_together() -> None:
    noisy = AIBAttention(6, noise=dict(type='AdditiveNoise'))
    with pytest.raises(ValueError, match='GaussianEncoder with noise'):
        head().loss(noisy(feats()), labels())
    deterministic = head(NOISE, aib_loss=ADVERSARIAL, test_samples=1)
    with pytest.raises(ValueError, match='NoiseEncoder without noise'):
        deterministic.loss(AIBAttention(6)(feats()), labels())


# --- every shipped config ---------------------------------------------------------


def test_anchors_do_not_decay_and_learn_at_the_full_rate() -> None:
    cfg = Config.fromfile(CONFIGS / 'vgg16_aib_qt_cifar10.py')
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    (anchors,) = (g for g in groups if g['params'][0] is model.neck.quantizer.anchors)
    assert anchors['weight_decay'] == 0
    assert {g['lr'] for g in groups} == {cfg.optim_wrapper.optimizer.lr}
    assert {g['weight_decay'] for g in groups} == {0, 5e-4}


def test_initialisation_is_the_released_codes() -> None:
    model = classifier('vgg16_aib_cifar10')
    model.init_weights()
    conv = model.head.encoder.body.layers.conv5_2.conv.weight
    bound = (2 * 6 / (2 * 512 * 9)) ** 0.5  # Xavier uniform, gain sqrt(2)
    assert 0.95 * bound < conv.abs().max() <= bound
    norm = model.backbone.layers.conv3_1.bn.weight
    assert 0 <= norm.min() < 0.05
    assert 0.95 < norm.max() <= 1
    assert norm.std().item() == pytest.approx(12**-0.5, abs=0.05)


def test_recording_restores_the_model_also_after_an_error() -> None:
    model = classifier('vgg16_aib_qt_cifar10').eval()
    hooks = len(model.neck._forward_hooks)
    with (
        pytest.raises(RuntimeError, match='stop'),
        record_attention(model) as record,
        torch.no_grad(),
    ):
        model(torch.randn(1, 3, 32, 32))
        model(torch.randn(1, 3, 32, 32))
        raise RuntimeError('stop')
    assert len(model.neck._forward_hooks) == hooks
    assert list(record) == ['neck']
    assert [maps[0].mean.shape for maps in record['neck']] == [(1, 1, 16, 16)] * 2
    assert record['neck'][0][0].indices.shape == (4, 1, 1, 16, 16)


def test_recording_a_model_without_attention_says_so() -> None:
    with (
        pytest.raises(ValueError, match='VGGBlocks holds no AIBAttention'),
        record_attention(VGGBlocks(width=1 / 16)),
    ):
        pass


def test_learning_rates_follow_the_recipe() -> None:
    """The paper's halvings follow 25 epochs each; the released code's come sooner."""
    expected = {
        'vgg16_cifar10': ([0.1, 0.1, 0.1], 25),
        'vgg16_aib_cifar10': ([0.01, 0.1, 0.1], 25),
        'vgg16_aib_qt_cifar10': ([0.001, 0.01, 0.1], 25),
        'vgg16_aib_released_cifar10': ([0.01, 0.1, 0.1], 24),
    }
    for name, (first, halved) in expected.items():
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        wrapper = build_optim_wrapper(torch.nn.Linear(2, 2), cfg.optim_wrapper)
        schedulers = [
            PARAM_SCHEDULERS.build(dict(s, optimizer=wrapper))
            for s in cfg.param_scheduler
        ]
        rates = []
        for _ in range(200):
            rates.append(wrapper.get_lr()['lr'][0])
            wrapper.optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        assert rates[:3] == pytest.approx(first)
        for epoch in range(3, 200):
            halvings = (epoch - halved) // 25 + 1
            assert rates[epoch] == pytest.approx(0.1 * 0.5**halvings), (name, epoch)


ROOT = CONFIGS.parents[1]
METAFILE = 'configs/mmpretrain/metafile.yml'


def test_the_metafile_lists_every_config() -> None:
    assert METAFILE in load(ROOT / 'model-index.yml')['Import']
    metafile = load(ROOT / METAFILE)
    collections = {entry['Name'] for entry in metafile['Collections']}
    models = {entry['Name']: entry for entry in metafile['Models']}
    assert set(models) == {path.stem for path in CONFIGS.glob('*.py')}
    for name, entry in models.items():
        assert (ROOT / entry['Config']).stem == name
        assert entry['In Collection'] in collections


@pytest.mark.parametrize(
    'narrow',
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=['narrow', 'full'],
)
def test_the_metafile_gives_the_true_cost(narrow, monkeypatch) -> None:
    # Weights do not matter, and drawing them takes most of the time.
    for name in ('kaiming_uniform_', 'uniform_'):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    entries = load(ROOT / METAFILE)['Models']
    entries = [entry for entry in entries if ('narrow' in entry['Name']) is narrow]
    assert entries
    for entry in entries:
        name = entry['Name']
        model = classifier(name).eval()
        parameters = sum(p.numel() for p in model.parameters())
        if getattr(model.neck, 'quantizer', None) is not None:
            model.neck.quantizer = None  # multiplies nothing, and not for "meta"
        size = image_size(name)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.to('meta')(torch.randn(1, 3, size, size, device='meta'))
        assert entry['Metadata']['Parameters'] == parameters, name
        assert entry['Metadata']['FLOPs'] == counter.get_total_flops() // 2, name
