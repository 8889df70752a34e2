"""ImageNet weights: from a whole backbone into extractor, attention and encoder."""

import subprocess
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
from cifar_files import environment
from mmengine import Config
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torchvision.models import resnet18, vgg16

from aib_mm.classification.imagenet_weights import main, split_weights
from aib_mm.training.checkpoint import save_atomically

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

REPO = Path(__file__).parents[1]
CONFIGS = REPO / 'configs' / 'mmpretrain'
CONVERTER = Path(mmpretrain.__file__).parent / '.mim/tools/model_converters'

# What no backbone has: a checkpoint of one leaves exactly these to be learned.
NEW = {
    *(
        f'neck.branches.0.{conv}.{part}'
        for conv in ('mean_conv', 'std_conv')
        for part in ('weight', 'bias')
    ),
    'neck.quantizer.anchors',
    *(
        f'head.{layer}.{part}'
        for layer in ('encoder.fc', 'decoder.layers.0', 'decoder.layers.2')
        for part in ('weight', 'bias')
    ),
}
PLACES = ('backbone', 'neck.branches.0.mean_branch', 'head.encoder.body')


def randomised(model: nn.Module) -> nn.Module:
    """A network as if trained: batch norms are not the identity."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    model.eval()
    return model


def host(width: int = 8) -> nn.Module:
    """The host's wide ResNet-50-2, narrow: its checkpoint is the published layout."""
    cfg = Config.fromfile(CONFIGS / 'wrn50-2_cub.py').model
    cfg.backbone.base_channels = width
    cfg.head.in_channels = width * 16
    return randomised(MODELS.build(cfg))


def write_config(folder: Path, **stage) -> Path:
    """The shipped model with other ``depth``, ``base_channels`` or ``expansion``."""
    channels = stage['base_channels'] * stage.get('expansion', 1) * 4
    path = folder / 'config.py'
    path.write_text(
        f'_base_ = {str(CONFIGS / "wrn50-2_aib_qt_cub.py")!r}\n'
        f'stage = dict({", ".join(f"{k}={v!r}" for k, v in stage.items())})\n'
        f'model = dict(backbone=stage,\n'
        f'    neck=dict(in_channels={channels}, mean_branch=stage),\n'
        f'    head=dict(encoder=dict(body=stage)))\n'
    )
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path, base_channels=8, expansion=2)


def save(model: nn.Module, path: Path) -> Path:
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)
    return path


def build(path: Path) -> nn.Module:
    model = MODELS.build(Config.fromfile(path).model)
    model.eval()
    return model


@pytest.mark.slow
def test_the_command_splits_a_published_checkpoint(config, tmp_path: Path) -> None:
    whole = host()
    source = save(whole, tmp_path / 'published.pth')
    target = tmp_path / 'pretrain' / 'split.pth'
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'aib_mm.classification.imagenet_weights'),
            *(source, target, '--model', config),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for key in NEW:
        assert f'  {key}\n' in done.stdout
    assert f'new in the model: {len(NEW)}\n' in done.stdout
    assert 'left in the source: 2\n  head.fc.weight\n  head.fc.bias' in done.stdout

    weights = torch.load(target)['state_dict']
    model = build(config)
    assert set(model.state_dict()) - set(weights) == NEW
    assert set(weights) <= set(model.state_dict())
    load_checkpoint(model, str(target), map_location='cpu', strict=False)
    found = model.state_dict()
    for key, value in whole.backbone.state_dict().items():
        holders = PLACES[1:] if key.startswith('layer4.') else PLACES[:1]
        for holder in holders:
            assert torch.equal(found[f'{holder}.{key}'], value), (holder, key)

    images = torch.randn(2, 3, 64, 64)
    (features,) = model.backbone(images)
    expected = whole.backbone(images)[-1]
    assert torch.equal(model.head.encoder.body(features)[0], expected)
    # The attention's copy has another stride, so that its map is larger.
    mean_branch = model.neck.branches[0].mean_branch
    assert mean_branch(features)[0].shape[-2:] == features.shape[-2:] == (4, 4)
    mean_branch.layer4[0].conv2.stride = (2, 2)
    mean_branch.layer4[0].downsample[0].stride = (2, 2)
    assert torch.equal(mean_branch(features)[0], expected)


def test_torchvisions_resnet_has_the_same_names(tmp_path: Path) -> None:
    whole = randomised(resnet18())
    config = write_config(tmp_path, depth=18, base_channels=64, expansion=1)
    # Checkpoints older than these counters lack them.
    source = {k: v for k, v in whole.state_dict().items() if 'num_batches' not in k}
    model = build(config)
    split = split_weights(model, source)
    assert list(split.parts) == list(PLACES)
    assert list(split.left) == ['fc.weight', 'fc.bias']
    assert {key for key in split.new if 'num_batches' not in key} == NEW
    model.load_state_dict(split.weights, strict=False)
    whole.avgpool = whole.fc = nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    expected = whole(images).view(2, 512, 2, 2)
    found = model.head.encoder.body(model.backbone(images)[-1])[0]
    torch.testing.assert_close(found, expected)


def test_vgg_keeps_its_names(tmp_path: Path) -> None:
    whole = MODELS.build(dict(type='VGG', depth=16))
    source = {f'module.backbone.{k}': v for k, v in whole.state_dict().items()}
    source['module.backbone.classifier.6.bias'] = torch.zeros(1000)
    model = build(CONFIGS / 'vgg16_aib_qt_cub.py')
    split = split_weights(model, source)
    assert list(split.parts) == ['backbone']
    assert set(split.new) == NEW
    assert list(split.left) == ['backbone.classifier.6.bias']
    model.load_state_dict(split.weights, strict=False)
    images = torch.randn(1, 3, 32, 32)
    expected = whole(images)[0]
    found = nn.functional.max_pool2d(model.backbone(images)[0], 2)
    assert torch.equal(found, expected)


@pytest.mark.slow
def test_torchvisions_vgg_through_the_hosts_converter(tmp_path: Path) -> None:
    whole = vgg16()
    whole.eval()
    published, converted = tmp_path / 'tv.pth', tmp_path / 'mm.pth'
    torch.save(whole.features.state_dict(prefix='features.'), published)
    command = [sys.executable, CONVERTER / 'vgg_to_mmpretrain.py', published, converted]
    subprocess.run([*command, '--layer-num', '16'], check=True, timeout=300)
    model = build(CONFIGS / 'vgg16_aib_cub.py')
    split = split_weights(model, torch.load(converted)['state_dict'])
    assert set(split.new) == NEW - {'neck.quantizer.anchors'}
    model.load_state_dict(split.weights, strict=False)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.backbone(images)[0], whole.features[:-1](images))


# --- errors -----------------------------------------------------------------------


def refused(capsys, *arguments: str | Path) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def test_a_checkpoint_of_another_network(config, tmp_path: Path, capsys) -> None:
    target = tmp_path / 'out.pth'
    features: dict[str, Tensor] = {'features.0.weight': torch.zeros(64, 3, 3, 3)}
    torch.save(features, tmp_path / 'vgg.pth')
    text = refused(capsys, tmp_path / 'vgg.pth', target, '--model', config)
    assert 'vgg.pth has no weights for ' in text
    assert 'keys of the model: backbone.conv1.weight, ' in text
    assert 'Its own keys are features.0.weight. ' in text
    assert 'vgg_to_mmpretrain.py' in text
    assert not target.exists()


def test_a_checkpoint_of_another_width(config, tmp_path: Path, capsys) -> None:
    source = save(host(width=4), tmp_path / 'narrow.pth')
    text = refused(capsys, source, tmp_path / 'out.pth', '--model', config)
    assert 'narrow.pth has ' in text
    assert (
        'layer1.0.conv1.weight ([4, 64, 1, 1], but [8, 64, 1, 1] in the model)' in text
    )
    assert 'same depth and width' in text


def test_unusable_files(config, tmp_path: Path, capsys) -> None:
    target = tmp_path / 'out.pth'
    text = refused(capsys, tmp_path / 'none.pth', target, '--model', config)
    assert 'none.pth does not exist' in text
    (tmp_path / 'cut.pth').write_bytes(b'PK\x03\x04')
    text = refused(capsys, tmp_path / 'cut.pth', target, '--model', config)
    assert 'cut.pth cannot be read' in text
    text = refused(capsys, tmp_path / 'cut.pth', target, '--model', tmp_path / 'no.py')
    assert 'no.py cannot be built: FileNotFoundError' in text
    assert f'python -m aib_mm doctor {tmp_path / "no.py"} says more' in text
    source = save(host(), tmp_path / 'published.pth')
    text = refused(capsys, source, tmp_path, '--model', config)
    assert f'{tmp_path} cannot be written' in text


def test_writing_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / 'weights.pth'
    save_atomically(dict(state_dict={}), path)
    before = path.read_bytes()

    def breaks(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('aib_mm.utils.files.os.fsync', breaks)
    with pytest.raises(KeyboardInterrupt):
        save_atomically(dict(state_dict={}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
