"""Maps of any source, of models with our parts or without, against hand figures."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attention_files import CONFIGS, write_images, write_model, write_weights
from mmengine.registry import DefaultScope
from test_attention_fields import detector, make_runner  # noqa: F401
from torch import Tensor, nn

from aib_mm.apis import AttentionInferencer
from aib_mm.attention import AIBAttention
from aib_mm.cli.visualize_attention import main
from aib_mm.errors import InferenceError
from aib_mm.interpret import AttentionFieldsHook, AttentionVisualizationHook
from aib_mm.interpret.record.source import (
    AttentionSource,
    BitsSource,
    ClassActivationSource,
    FeatureSource,
    named_module,
    read_source,
)
from aib_mm.utils.libraries import MissingLibraryError
from aib_mm.utils.shipped import shipped_model, shipped_models

VIT = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16),
        img_size=32,
        patch_size=4,
    ),
    neck=None,
    head=dict(_delete_=True, type='VisionTransformerClsHead', num_classes=10,
        in_channels=8),
)
"""
PLAIN = {
    'mmpretrain': Path(__file__).with_name('tiny_classifier.py'),
    'mmdet': CONFIGS / 'mmdet/faster_rcnn_r18-narrow_digitscenes.py',
    'mmseg': CONFIGS / 'mmseg/upernet_beit-narrow_digitscenes.py',
}
SIZE = {'mmpretrain': 32, 'mmdet': 64, 'mmseg': 64}
MIN_SCORE = 0.05


class Plain:
    """A model without our parts, its files and two images of one size."""

    def __init__(self, scope: str, folder: Path) -> None:
        pytest.importorskip(scope)
        self.scope = scope
        self.config = folder / f'{scope}.py'
        self.config.write_text(f'_base_ = [{str(PLAIN[scope])!r}]\n')
        self.checkpoint = write_weights(self.config)
        sizes = dict.fromkeys(('a.png', 'b.png'), (SIZE[scope],) * 2)
        self.images = write_images(folder / 'images', sizes)

    def inferencer(self, source: str, **options: Any) -> AttentionInferencer:
        options = dict(min_score=MIN_SCORE, **options)
        return AttentionInferencer(
            self.config, self.checkpoint, source=source, **options
        )

    def batch(self, inferencer: AttentionInferencer) -> dict[str, Any]:
        """Both images as the model gets them."""
        loaded = [item.load() for item in inferencer.items(self.images)]
        data = dict(
            inputs=[one.inputs for one in loaded],
            data_samples=[one.data_sample for one in loaded],
        )
        return inferencer.model.data_preprocessor(data, False)


@pytest.fixture(scope='module', params=PLAIN)
def plain(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    return Plain(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope='module')
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    return Plain('mmpretrain', tmp_path_factory.mktemp('classifier'))


def outputs_of(
    inferencer: AttentionInferencer, name: str, predict: Callable[[], Any]
) -> tuple[Any, Any]:
    """What a module returned while ``predict`` ran, and what that gave."""
    seen: list[Any] = []
    module = inferencer.model.get_submodule(name)
    handle = module.register_forward_hook(lambda _, __, output: seen.append(output))
    with DefaultScope.overwrite_default_scope(inferencer.scope):
        made = predict()
    handle.remove()
    (output,) = seen
    return output, made


def weighted_sum(features: Tensor, weights: Tensor) -> Tensor:
    """Grad-CAM of one image ``(K, h, w)``, from 0 to 1."""
    raw = torch.einsum('k,khw->hw', weights, features).clamp_min(0)
    return (raw - raw.min()) / (raw.max() - raw.min())


def test_features_are_the_mean_over_the_channels(plain: Plain) -> None:
    name = 'backbone.layer2' if plain.scope == 'mmpretrain' else 'backbone'
    inferencer = plain.inferencer(f'features:{name}')
    data = plain.batch(inferencer)
    with torch.no_grad():
        output, _ = outputs_of(
            inferencer, name, lambda: inferencer.model(**data, mode='predict')
        )
    levels = [output] if isinstance(output, Tensor) else output
    results = inferencer(plain.images, batch_size=2)
    for i, result in enumerate(results):
        assert len(result.levels) == len(levels)
        for level, expected in zip(result.levels, levels, strict=True):
            mean = torch.stack(list(expected[i])).sum(dim=0) / expected.shape[1]
            torch.testing.assert_close(level.mean[0, 0], mean)
        assert result.source == f'features:{name}' and result.is_certain
        assert 'attention_std' not in result.uncertainty
        assert result.consistency is None
    assert not [m for m in inferencer.model.modules() if m._forward_hooks]


def test_predictions_are_the_same_whatever_the_source(plain: Plain) -> None:
    pytest.importorskip('pytorch_grad_cam')
    sources = ('features:backbone', 'gradcam')
    if plain.scope == 'mmpretrain':
        sources = ('features:backbone.layer1', 'gradcam')
    first, second = (plain.inferencer(s)(plain.images, seed=0) for s in sources)
    for ours, other in zip(first, second, strict=True):
        assert ours.outcome == other.outcome
        for result in (ours, other):
            tensors = [result.prediction]
            while tensors:
                value = tensors.pop()
                if isinstance(value, Tensor):
                    assert not value.requires_grad
                elif hasattr(value, 'all_values'):
                    tensors += value.all_values()


def test_a_gate_is_taken_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    files = write_model('mmpretrain', tmp_path)
    image = write_images(tmp_path, {'a.png': (32, 32)})
    (own,) = AttentionInferencer(*files)(image)
    name = 'neck.branches.0.mean_conv'
    (gate,) = AttentionInferencer(*files, source=f'gate:{name}')(image)
    # The attention is the sigmoid of what this conv returns.
    torch.testing.assert_close(gate.levels[0].mean.sigmoid(), own.levels[0].mean)
    assert not own.is_certain and own.source == 'attention'


@pytest.mark.parametrize('shipped', shipped_models())
def test_bits_are_what_the_map_lets_through(shipped: str) -> None:
    host = shipped_model(shipped)[0].parent.name
    pytest.importorskip(host)
    size = SIZE[host]
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    (own,) = AttentionInferencer(shipped)([image], seed=0)
    (bits,) = AttentionInferencer(shipped, source='bits')([image], seed=0)
    np.testing.assert_allclose(bits.levels[0].mean[0, 0], own.passed.raw, rtol=1e-6)
    assert bits.is_certain and bits.passed is None
    titles = [axis.get_title() for axis in own.plot().axes[:3]]
    assert titles == [own.name, 'attention', 'bits let through']
    np.testing.assert_array_equal(
        own.plot().axes[2].images[1].get_array(), own.passed.map
    )
    assert (bits.source, bits.words) == ('bits', 'bits let through')
    assert bits.outcome == own.outcome


def test_bits_of_a_map_that_has_none(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    image = write_images(tmp_path, {'a.png': (32, 32)})
    inferencer = AttentionInferencer(
        *write_model('mmpretrain', tmp_path), source='bits'
    )
    with pytest.raises(InferenceError, match=r"what it lets through.*='replace'"):
        inferencer(image)


def test_grad_cam_is_of_the_logit_however_sure_the_model_is(
    classifier: Plain, tmp_path: Path
) -> None:
    pytest.importorskip('pytorch_grad_cam')
    inferencer = classifier.inferencer('gradcam:backbone.layer4')
    head = inferencer.model.head.fc
    data = classifier.batch(inferencer)
    # Features behind a ReLU, which some class is for.
    head.weight.data.abs_()
    for scale in (1.0, 1e5):
        head.weight.data.mul_(scale)
        features = inferencer.model.backbone(data['inputs'])[-1].detach()
        for i, result in enumerate(inferencer(classifier.images, batch_size=2)):
            (label,) = result.outcome.predicted
            expected = weighted_sum(features[i], head.weight[label].detach())
            found = result.levels[0].mean[0, 0]
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert result.prediction.pred_score.max() == 1
    assert all(p.grad is None for p in inferencer.model.parameters())


def by_autograd(plain: Plain, inferencer: AttentionInferencer, layer: str) -> Tensor:
    """Grad-CAM of both images of a detector or segmentor, ``(2, h, w)``."""
    data = plain.batch(inferencer)
    model = inferencer.model

    def predict() -> Any:
        return model(**data, mode='predict')

    with torch.enable_grad():
        features, samples = outputs_of(inferencer, layer, predict)
        total: Tensor = torch.zeros(())
        for sample in samples:
            if plain.scope == 'mmdet':
                scores = sample.pred_instances.scores
                total = total + scores[scores > MIN_SCORE].sum()
            else:
                logits = sample.seg_logits.data
                total = total + logits.max(dim=0).values.sum()
        (grad,) = torch.autograd.grad(total, features)
    if features.dim() == 3:  # tokens behind a class token
        side = round((features.shape[1] - 1) ** 0.5)
        features, grad = (
            x[:, 1:].transpose(1, 2).reshape(len(x), -1, side, side)
            for x in (features, grad)
        )
    pairs = zip(features.detach(), grad.mean(dim=(2, 3)), strict=True)
    return torch.stack([weighted_sum(*pair) for pair in pairs])


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_grad_cam_of_a_foreign_model_is_that_of_its_scores(
    scope: str, tmp_path: Path
) -> None:
    pytest.importorskip('pytorch_grad_cam')
    plain = Plain(scope, tmp_path)
    inferencer = plain.inferencer('gradcam')
    results = inferencer(plain.images, batch_size=2)
    layer = inferencer.source.layer
    # The last one of the backbone with a map of 7×7: 8×8 of 128×128, and 16×16.
    last = {'mmdet': 'backbone.layer3', 'mmseg': 'backbone.layers.3'}
    assert layer == last[scope]
    assert {result.source for result in results} == {f'gradcam:{layer}'}
    for result, expected in zip(
        results, by_autograd(plain, inferencer, layer), strict=True
    ):
        found = result.levels[0].mean[0, 0]
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


def test_nothing_predicted_is_a_map_of_0(tmp_path: Path) -> None:
    pytest.importorskip('pytorch_grad_cam')
    plain = Plain('mmdet', tmp_path)
    inferencer = plain.inferencer('gradcam')
    inferencer.min_score = 2.0
    for result in inferencer(plain.images):
        assert result.outcome.predicted == () and not result.attention_mean.any()
        assert result.source == 'gradcam'
    inferencer.min_score = MIN_SCORE
    assert inferencer(plain.images)[0].attention_mean.any()


def test_tokens_of_a_transformer_lie_on_their_grid(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    config = tmp_path / 'vit.py'
    config.write_text(VIT.format(base=str(PLAIN['mmpretrain'])))
    image = write_images(tmp_path, {'a.png': (32, 32)})
    inferencer = AttentionInferencer(
        config, write_weights(config), source='features:backbone.layers.0'
    )
    seen: list[Tensor] = []
    inferencer.model.backbone.layers[0].register_forward_hook(
        lambda _, __, output: seen.append(output)
    )
    (result,) = inferencer(image)
    (tokens,) = seen
    assert tokens.shape == (1, 65, 8)
    for row, column in ((0, 0), (2, 5), (7, 7)):
        value = tokens[0, 1 + 8 * row + column].mean()
        torch.testing.assert_close(result.levels[0].mean[0, 0, row, column], value)


def test_a_hook_writes_features_without_a_std(detector, tmp_path) -> None:  # noqa: F811
    runner = make_runner(detector, tmp_path)
    model = runner.model.eval()
    hook = AttentionFieldsHook(source='features:neck.pre_neck', level=0)
    hook.before_test(runner)
    features, samples = [], []
    model.neck.pre_neck.register_forward_hook(lambda _, __, out: features.append(out))
    with torch.no_grad():
        samples = model.test_step(next(iter(runner.test_dataloader)))
    hook.after_test(runner)
    for i, sample in enumerate(samples):
        assert 'attention_std' not in sample
        expected = features[0][0][i].sum(dim=0) / features[0][0].shape[1]
        torch.testing.assert_close(sample.attention_mean[0], expected)


def test_hooks_refuse_class_activation_and_name_what_works() -> None:
    for hook in (AttentionFieldsHook, AttentionVisualizationHook):
        with pytest.raises(ValueError, match=r"'gradcam' needs gradients.*features:M"):
            hook(source='gradcam')
        with pytest.raises(ValueError, match=r"source must be one of .*'feature:x'"):
            hook(source='feature:x')


def test_a_picture_of_features_never_stops_a_test(detector, tmp_path, capfd) -> None:  # noqa: F811
    for number, module in enumerate(('neck', 'bbox_head.retina_cls', 'nothing')):
        hook = dict(type='AttentionVisualizationHook', source=f'features:{module}')
        cfg = detector.copy()
        cfg.custom_hooks = [*detector.custom_hooks, hook]
        runner = make_runner(cfg, tmp_path / str(number))
        runner.test()
        pictures = list(tmp_path.rglob(f'{number}/**/features_neck_*.png'))
        assert len(pictures) == (3 if module == 'neck' else 0)


@pytest.mark.parametrize(
    ('text', 'kind', 'name'),
    [
        ('attention', AttentionSource, 'attention'),
        ('bits', BitsSource, 'bits'),
        ('features:backbone.layer2', FeatureSource, None),
        ('gate:neck', FeatureSource, None),
        ('gradcam', ClassActivationSource, None),
        ('GradCAM:neck', ClassActivationSource, 'gradcam:neck'),
        ('LayerCAM', ClassActivationSource, 'layercam'),
    ],
)
def test_texts_that_name_sources(text: str, kind: type, name: str | None) -> None:
    found = read_source(text)
    assert type(found) is kind and str(found) == (name or text)


@pytest.mark.parametrize('text', ['', 'features', 'features:', 'gradcam:', 'grad:x'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r'source must be one of .*gradcam:MODULE, got'
    ):
        read_source(text)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('attention', r"holds no AIBAttention.*source='features:MODULE' or.*--source"),
        ('features:backbone.layr2', r"no module 'backbone.layr2'; did .*'backbone.l"),
        ('gradcam:x', r"no module 'x'; its parts are data_preprocessor, backbone"),
        ('features:neck', r'neck returns tuple of Tensor \(1, 32\), which is no map'),
        ('gate:backbone.layer1', r'map of 4 channels.*a gate has one: .*features:back'),
        ('gradcam:head.fc', r'the layer, Linear, returns Tensor \(1, 10\), which is'),
        (
            'gradcam:backbone',
            r'the layer, ResNet_CIFAR, returns tuple of Tensor \(1, 3',
        ),
    ],
)
def test_mistakes_are_named(source: str, message: str, classifier: Plain) -> None:
    pytest.importorskip('pytorch_grad_cam')
    with pytest.raises(ValueError, match=message):
        classifier.inferencer(source)(classifier.images)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('features:rpn_head.rpn_cls', r"goes \d times through 'rpn_head.rpn_cls'"),
        ('features:roi_head.bbox_roi_extractor', r'gives \d+ maps of 1 images'),
        ('gradcam:rpn_head.rpn_cls', r'the layer runs \d times for one batch'),
        ('gradcam:roi_head.bbox_roi_extractor', r'returns \d+ maps of 1 images'),
        ('gradcam:rpn_head.rpn_reg', r'runs \d times'),
    ],
)
def test_modules_that_do_not_see_one_image_are_named(
    source: str, message: str, tmp_path: Path
) -> None:
    pytest.importorskip('pytorch_grad_cam')
    plain = Plain('mmdet', tmp_path)
    with pytest.raises(InferenceError, match=message):
        plain.inferencer(source)(plain.images)


def test_the_missing_library_is_named(classifier: Plain, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'pytorch_grad_cam', None)
    with pytest.raises(MissingLibraryError, match='pip install grad-cam'):
        classifier.inferencer('gradcam')


def test_the_command_writes_what_the_source_is(
    classifier: Plain, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    files = [str(classifier.config), classifier.checkpoint, *classifier.images]
    out = tmp_path / 'out'
    source = 'features:backbone.layer3'
    options = ['--source', source, '--sheet', '1', '--out', str(out)]
    assert main([*files, *options]) == 0
    folder = out / 'a.png'
    made = {path.stem for path in folder.iterdir()}
    assert {'mean', 'overlay_mean', 'prediction', 'arrays'} <= made
    assert not {name for name in made if 'std' in name or 'sample' in name}
    arrays = np.load(folder / 'arrays.npz')
    assert str(arrays['source']) == source
    assert not {'std', 'samples', 'level0_std', 'attention_std'} & set(arrays.files)
    assert arrays['level0_mean'].shape == (8, 8)
    rows = json.loads((out / 'results.json').read_text())['images']
    assert [row['source'] for row in rows] == [source] * 2
    page = (out / 'index.html').read_text()
    assert f'Maps: {source}.' in page and 'mean over the channels of' in page
    assert (out / 'sheet.png').exists()
    assert main([*files, '--source', 'features:nothing', '--out', str(out)]) == 2
    assert "has no module 'nothing'" in capsys.readouterr().err


def test_near_names_of_modules() -> None:
    model = nn.Sequential(AIBAttention(4))
    assert named_module(model, '0') is model[0]
    with pytest.raises(ValueError, match=r"no module '0.branch'; did you mean '0.br"):
        named_module(model, '0.branch')
