"""ONNX files and compiled modules against the modules themselves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from aib_mm.attention import AIBAttention
from aib_mm.export import OPSET, export_onnx
from aib_mm.quantizer import VQAnchorQuantizer

onnxruntime = pytest.importorskip('onnxruntime')

CONFIG = 'configs/mmpretrain/vgg16-narrow_aib_qt_digitscenes.py'
QUANTIZERS = [None, dict(type='VQAnchorQuantizer', num_anchors=20)]

# What torch.onnx.export says of itself.
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')


class Maps(nn.Module):
    """The neck's maps as a plain tuple, which is what a file can hold."""

    def __init__(self, neck: AIBAttention) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.neck(x))


class Values(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quantizer = VQAnchorQuantizer(20)

    def forward(self, scores: Tensor) -> Tensor:
        return self.quantizer(scores).values


@pytest.fixture(scope='module')
def classifier(repo: Path) -> nn.Module:
    pytest.importorskip('mmpretrain.models')
    cfg = Config.fromfile(repo / CONFIG)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    return model.eval()


def neck(quantizer: dict[str, Any] | None, how: str = 'residual') -> AIBAttention:
    torch.manual_seed(0)
    return AIBAttention(8, quantizer=quantizer, test_samples=0, modulation=how).eval()


def run_file(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    return torch.from_numpy(session.run(None, {given.name: images.numpy()})[0])


def exported(module: nn.Module, example: Tensor, path: Path) -> Path:
    shapes = ({0: torch.export.Dim('batch')},)
    torch.onnx.export(
        module,
        (example,),
        path,
        dynamic_shapes=shapes,
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def test_a_quantizer_in_onnx(tmp_path: Path) -> None:
    module = Values().eval()
    path = exported(module, torch.rand(2, 1, 4, 5), tmp_path / 'quantizer.onnx')
    scores = torch.rand(3, 1, 4, 5) * 1.4 - 0.2
    torch.testing.assert_close(run_file(path, scores), module(scores).detach())


@pytest.mark.parametrize('how', ['residual', 'replace'])
@pytest.mark.parametrize('quantizer', QUANTIZERS)
def test_a_neck_in_onnx(
    quantizer: dict[str, Any] | None, how: str, tmp_path: Path
) -> None:
    module = Maps(neck(quantizer, how)).eval()
    path = exported(module, torch.randn(2, 8, 4, 5), tmp_path / 'neck.onnx')
    x = torch.randn(3, 8, 4, 5)
    (expected,) = module(x)
    assert (run_file(path, x) - expected).abs().max() <= 1e-5


def test_a_classifier_in_onnx_at_any_batch_size(
    classifier: nn.Module, tmp_path: Path
) -> None:
    """Its samples are left out: the file equals the mean attention and latent."""
    path = tmp_path / 'classifier.onnx'
    classifier.train()
    classifier.backbone.eval()  # frozen, as by its norm_eval
    modes = [module.training for module in classifier.modules()]
    export_onnx(classifier, path, (32, 32))
    assert [module.training for module in classifier.modules()] == modes
    classifier.eval()
    for batch in (1, 5):
        images = torch.randn(batch, 3, 32, 32)
        with torch.no_grad():
            expected = classifier(images, mode='tensor')
        assert (run_file(path, images) - expected).abs().max() <= 1e-5


def test_the_channels_are_the_models(repo: Path, tmp_path: Path) -> None:
    channels = 4
    pytest.importorskip('mmpretrain.models')
    cfg = Config.fromfile(repo / CONFIG)
    cfg.model.backbone.in_channels = channels
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).eval()
    export_onnx(model, tmp_path / 'bands.onnx', (32, 32))
    images = torch.randn(3, channels, 32, 32)
    with torch.no_grad():
        expected = model(images, mode='tensor')
    assert (run_file(tmp_path / 'bands.onnx', images) - expected).abs().max() <= 1e-5


def test_only_classifiers_are_exported(tmp_path: Path) -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor, mode: str) -> tuple[Tensor]:
            return (images,)

    message = r"Detector gives tuple in mode='tensor', not logits: only classifiers"
    with pytest.raises(TypeError, match=message):
        export_onnx(Detector(), tmp_path / 'detector.onnx', (8, 8))


def compiled(module: nn.Module) -> Any:
    """Without code generation, which the default suite has no time for."""
    return torch.compile(module, fullgraph=True, backend='aot_eager')


@pytest.mark.parametrize('quantizer', QUANTIZERS)
def test_a_training_step_of_a_compiled_neck(quantizer: dict[str, Any] | None) -> None:
    """No graph break; the same features, losses and gradients."""
    module = neck(quantizer)
    x = torch.randn(2, 8, 4, 5)
    expected = _gradients(module, module, x)
    found = _gradients(module, compiled(Maps(module)), x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_compiled_neck_in_training_has_no_graph_break() -> None:
    module = Maps(neck(dict(type='VQAnchorQuantizer'))).train()
    (features,) = compiled(module)(torch.randn(2, 8, 4, 5))
    features.sum().backward()
    assert module.neck.branches[0].mean_conv.weight.grad.abs().sum() > 0


def _gradients(module: nn.Module, called: Any, x: Tensor) -> list[Tensor]:
    module.zero_grad()
    (features,) = called(x)
    features.square().sum().backward()
    found = [parameter.grad for parameter in module.parameters()]
    return [features.detach(), *(g.clone() for g in found if g is not None)]


@pytest.mark.parametrize('num_anchors', [1, 20, 65])
def test_a_training_step_of_a_compiled_quantizer(num_anchors: int) -> None:
    module = VQAnchorQuantizer(num_anchors)
    with torch.no_grad():
        module.anchors.copy_(torch.rand(num_anchors))
    scores = torch.rand(2, 1, 4, 5, requires_grad=True)
    results = []
    for called in (module, compiled(module)):
        module.zero_grad()
        scores.grad = None
        found = called(scores)
        (3 * found.vq_loss + found.commit_loss + found.values.sum()).backward()
        results.append([*found, scores.grad, module.anchors.grad.clone()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_compiled_classifier(classifier: nn.Module) -> None:
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = classifier(images, mode='tensor')
        found = compiled(classifier)(images, mode='tensor')
    assert (found - expected).abs().max() <= 1e-5


@pytest.mark.slow
def test_generated_code_of_a_compiled_quantizer() -> None:
    module = VQAnchorQuantizer(20)
    scores = torch.rand(2, 1, 32, 32)
    found = torch.compile(module, fullgraph=True)(scores)
    for one, other in zip(found, module(scores), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
