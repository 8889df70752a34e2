"""The inferencer against the hosts' own, and what it says of information."""

import math
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attention_files import write_images, write_model, write_weights
from cifar_files import write_cifar10
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from PIL import Image
from torch import nn

from aib_mm.apis import AttentionInferencer, InferenceError, _class_meta
from aib_mm.encoders import Latent, LatentEncoder
from aib_mm.errors import DataError
from aib_mm.interpret import map_on_image, record_attention, record_latents
from aib_mm.interpret.record.information import (
    Information,
    LatentRows,
    information_of_images,
)
from aib_mm.interpret.record.inputs import Failure
from aib_mm.interpret.result import agreement, place_information
from aib_mm.training.checkpoint import CheckpointError

HOSTS = ('mmpretrain', 'mmdet', 'mmseg')
# A BEiT of fixed size takes square images only.
SIZES = {
    'mmpretrain': {'a.png': (32, 32), 'b.png': (32, 32), 'c.png': (48, 32)},
    'mmdet': {'a.png': (64, 96), 'b.png': (64, 96), 'c.png': (96, 64)},
    'mmseg': {'a.png': (64, 64), 'b.png': (64, 64), 'c.png': (96, 96)},
}


class Given:
    """An inferencer of one host, its files, and images of two sizes."""

    def __init__(self, scope: str, folder: Path) -> None:
        pytest.importorskip(scope)
        self.scope = scope
        self.config, self.checkpoint = write_model(scope, folder)
        self.images = write_images(folder / 'images', SIZES[scope])
        self.inferencer = AttentionInferencer(self.config, self.checkpoint)


@pytest.fixture(scope='module', params=HOSTS)
def given(request, tmp_path_factory) -> Given:
    return Given(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope='module')
def classifier(tmp_path_factory) -> Given:
    return Given('mmpretrain', tmp_path_factory.mktemp('classifier'))


def host_predictions(given: Given) -> list[Any]:
    """The data samples of the host's own inferencer."""
    options = dict(return_datasamples=True)
    if given.scope == 'mmpretrain':
        from mmpretrain import ImageClassificationInferencer as Host

        # It hands the BGR of a file to a model of RGB arrays.
        host = Host(given.config, pretrained=given.checkpoint)
        pixels = [np.asarray(Image.open(path)) for path in given.images]
        return host(pixels, **options)
    if given.scope == 'mmdet':
        from mmdet.apis import DetInferencer as Host

        host = Host(given.config, given.checkpoint, device='cpu', show_progress=False)
        return host(given.images, **options)['predictions']
    from mmseg.apis import MMSegInferencer as Host

    return Host(given.config, given.checkpoint, device='cpu')(given.images, **options)


def test_predictions_are_those_of_the_hosts_own_inferencer(given: Given) -> None:
    with DefaultScope.overwrite_default_scope(given.scope):
        expected = host_predictions(given)
    results = given.inferencer(given.images)
    assert [result.name for result in results] == ['a.png', 'b.png', 'c.png']
    for result, other in zip(results, expected, strict=True):
        if given.scope == 'mmpretrain':
            ours, theirs = result.prediction.pred_score, other.pred_score
        elif given.scope == 'mmdet':
            ours = result.prediction.pred_instances.bboxes
            theirs = other.pred_instances.bboxes
            assert len(ours)
        else:
            ours = result.prediction.pred_sem_seg.data
            theirs = other.pred_sem_seg.data
        torch.testing.assert_close(ours, theirs)


def test_maps_lie_on_each_image_whatever_its_batch(given: Given) -> None:
    results = given.inferencer(given.images, batch_size=3)
    for result, alone in zip(results, given.inferencer(given.images), strict=True):
        height, width = SIZES[given.scope][result.name]
        assert result.image.shape == (height, width, 3)
        with Image.open(Path(given.images[0]).with_name(result.name)) as file:
            assert np.array_equal(result.image, np.asarray(file))
        for name in ('attention_mean', 'attention_std', 'samples'):
            values, other = getattr(result, name), getattr(alone, name)
            assert values.shape[-2:] == (height, width)
            np.testing.assert_allclose(values, other, atol=1e-5)
        assert result.attention_mean.std() > 0
        finest = result.levels[0]
        if len(result.levels) == 1:
            placed = map_on_image(finest.mean[0], result.prediction.metainfo)
            np.testing.assert_allclose(result.attention_mean, placed, atol=1e-6)
        assert result.uncertainty['attention_std'] == pytest.approx(
            result.attention_std.mean()
        )


def test_an_array_is_what_its_file_is(given: Given) -> None:
    with Image.open(given.images[0]) as file:
        bgr = np.asarray(file)[..., ::-1]
    from_file, from_array = given.inferencer([given.images[0], bgr])
    assert from_array.name == '00001'
    assert np.array_equal(from_array.image, from_file.image)
    np.testing.assert_allclose(
        from_array.attention_mean, from_file.attention_mean, atol=1e-6
    )


def test_nothing_of_the_script_around_is_changed(given: Given) -> None:
    cfg = Config.fromfile(given.config)
    before = cfg.pretty_text
    with DefaultScope.overwrite_default_scope('mmengine'):
        AttentionInferencer(cfg, given.checkpoint)(given.images[0])
        assert DefaultScope.get_current_instance().scope_name == 'mmengine'
    assert cfg.pretty_text == before
    assert torch.is_grad_enabled()
    hooked = [m for m in given.inferencer.model.modules() if m._forward_hooks]
    assert not hooked


@pytest.mark.usefixtures('mmpretrain_scope')
def test_classes_have_names_and_colours() -> None:
    pytest.importorskip('mmpretrain')
    digits = tuple('0123456789')
    meta = _class_meta({}, ConfigDict(type='DigitScenes'))
    assert tuple(meta['classes']) == digits and len(meta['palette']) == 10
    assert len({tuple(color) for color in meta['palette']}) == 10
    named = ConfigDict(type='DigitScenes', metainfo=dict(classes=('a', 'b')))
    assert _class_meta({}, named)['classes'] == ('a', 'b')
    known = _class_meta(dict(CLASSES=('c',), PALETTE=[[1, 2, 3]]), named)
    assert known['classes'] == ('c',) and known['palette'] == [[1, 2, 3]]


def test_recording_lets_go_after_an_error(classifier: Given) -> None:
    model = classifier.inferencer.model
    with pytest.raises(KeyError), record_attention(model), record_latents(model):
        raise KeyError
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_samples_are_seeded_and_agree_more_or_less(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    files = write_model('mmpretrain', tmp_path, samples=4)
    image = write_images(tmp_path, {'a.png': (32, 32)})
    inferencer = AttentionInferencer(*files)
    (first,), (again,), (other,) = (inferencer(image, seed=s) for s in (0, 0, 1))
    assert first.samples.shape == (4, 32, 32) and first.quantized
    assert np.array_equal(first.samples, again.samples)
    scores = [r.prediction.pred_score for r in (first, again, other)]
    assert torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])
    assert 0 <= first.consistency <= 1
    assert first.consistency == agreement(first.levels[0].samples)


def test_agreement_is_the_mean_over_pairs() -> None:
    flat = torch.tensor([[0.0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 1, 0]])
    samples = flat.view(3, 1, 1, 2, 2)
    assert agreement(samples[:2]) == pytest.approx(1.0)
    assert agreement(samples) == pytest.approx(1 / 3)
    assert agreement(samples[:1]) is None


RED = np.full((32, 32, 3), (200, 0, 0), np.uint8)  # RGB


@pytest.mark.parametrize('source', ['split', 'file', 'array'])
@pytest.mark.parametrize('to_rgb', [False, True])
def test_a_model_of_arrays_sees_files_in_its_own_order(
    source: str, to_rgb: bool, classifier: Given, tmp_path: Path, monkeypatch
) -> None:
    """CIFAR holds RGB arrays, files are loaded as BGR; a set may also hold BGR."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    write_cifar10('data', train_per_batch=2, test=2)
    Image.fromarray(RED).save('red.png')
    cfg = Config.fromfile(classifier.config)
    cfg.model.data_preprocessor.to_rgb = to_rgb
    cfg.test_dataloader.dataset.type = 'unchecked_cifar.RedCIFAR10'
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='CenterCrop', crop_size=16),  # what the network saw is shown
        dict(type='PackInputs'),
    ]
    inferencer = AttentionInferencer(cfg, classifier.checkpoint)
    if source == 'split':
        items = inferencer.split_items('test')[:1]
    else:
        given = 'red.png' if source == 'file' else RED[..., ::-1].copy()
        items = inferencer.items(given)
    seen = []
    inferencer.model.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    (result,) = inferencer.stream(items)
    mean = torch.tensor(cfg.model.data_preprocessor['mean']).view(3, 1, 1)
    std = torch.tensor(cfg.model.data_preprocessor['std']).view(3, 1, 1)
    pixels = (seen[0][0] * std + mean).mean(dim=(1, 2)).round().tolist()
    if source == 'split' and to_rgb:  # it says that it holds BGR: here that is blue
        assert pixels == [0, 0, 200] and result.image[0, 0].tolist() == [0, 0, 200]
    else:
        assert pixels == [200, 0, 0] and result.image[0, 0].tolist() == [200, 0, 0]


def test_types_may_be_classes_as_in_pure_python_configs(classifier: Given) -> None:
    from mmcv.transforms import LoadImageFromFile
    from mmpretrain.datasets import PackInputs

    cfg = Config.fromfile(classifier.config)
    pipeline = [dict(type=LoadImageFromFile), dict(type=PackInputs)]
    cfg.test_dataloader.dataset.pipeline = pipeline
    (by_class,) = AttentionInferencer(cfg, classifier.checkpoint)(classifier.images[0])
    for step in pipeline:
        step['type'] = step['type'].__name__
    cfg.test_dataloader.dataset.pipeline = pipeline
    (by_name,) = AttentionInferencer(cfg, classifier.checkpoint)(classifier.images[0])
    np.testing.assert_array_equal(by_class.attention_mean, by_name.attention_mean)


def test_an_image_that_pillow_finds_too_large_is_looked_at(
    classifier: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', 10)
    inferencer = AttentionInferencer(classifier.config, classifier.checkpoint)
    assert inferencer(classifier.images[0])[0].name in str(classifier.images[0])


def test_a_config_needs_its_weights(classifier: Given) -> None:
    with pytest.raises(ValueError, match='a Config needs a checkpoint, the path'):
        AttentionInferencer(Config.fromfile(classifier.config))


class TestInformation:
    """Of hand-made latents, and of every host's heads."""

    def test_of_one_latent_it_is_the_divergence_in_bits(self) -> None:
        class Encoder(LatentEncoder):
            has_density, parameters_per_dim = True, 1

            def forward(self, x: torch.Tensor, num_samples: int) -> Latent:
                return Latent(x[None], x, torch.ones_like(x))

        encoder = Encoder(in_features=2, latent_dim=2)
        with record_latents(nn.Sequential(encoder)) as rows:
            encoder(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), 1)
        # Of a mean m with std 1 it is m²/2 nats.
        assert rows[0].bits.tolist() == pytest.approx(
            [2 / math.log(2), 1 / math.log(2)]
        )

    def test_samples_are_averaged_and_latents_summed(self) -> None:
        one = LatentRows(torch.tensor([1.0, 2.0, 3.0, 4.0]), None)
        first, second = information_of_images([one], 2)
        assert (first.total, second.total) == (2.0, 3.0)
        assert (first.positions, first.bits.shape) == (1, ())
        assert information_of_images([one, one], 2)[0].total == 4.0
        assert information_of_images([], 3) == [None] * 3

    def test_positions_are_kept(self) -> None:
        bits = torch.arange(16.0).view(4, 2, 2)
        first, second = information_of_images([LatentRows(bits, None)], 2)
        # Samples 0 and 2 are of the first image.
        assert first.bits.tolist() == [[4, 5], [6, 7]] and first.total == 22
        assert second.positions == 4 and second.total == 38

    def test_regions_go_to_their_images(self) -> None:
        # Two samples of two images, one region in the first and two in the second.
        rois = torch.zeros(6, 5)
        rois[:, 0] = torch.tensor([0.0, 1, 1, 2, 3, 3])
        rois[:, 1] = torch.tensor([7.0, 8, 9, 7, 8, 9])
        rows = LatentRows(torch.tensor([1.0, 2, 4, 3, 4, 8]), rois)
        first, second = information_of_images([rows, rows], 2)
        assert first.bits.tolist() == [4.0] and first.total == 4.0
        assert second.bits.tolist() == [6.0, 12.0] and second.positions == 2
        assert second.rois[:, 0].tolist() == [8.0, 9.0]
        nothing = LatentRows(torch.zeros(0), torch.zeros(0, 5))
        assert [i.total for i in information_of_images([nothing], 2)] == [0.0, 0.0]

    def test_each_stage_of_a_cascade_has_regions_of_its_own(self) -> None:
        """Where it draws of few (``sample_above``), also fewer or more of them."""
        for counts in ((2, 4), (4, 2), (2, 2), (3, 2), (2, 0)):
            rows = []
            for stage, count in enumerate(counts):
                # Two samples of one image; two latents of a bit a region and sample.
                rois = torch.full((2 * count, 5), float(stage))
                rois[:, 0] = torch.arange(2).repeat_interleave(count)
                rows += [LatentRows(torch.ones(2 * count), rois)] * 2
            (found,) = information_of_images(rows, 1)
            assert found.bits.tolist() == [2.0] * sum(counts)
            assert found.rois[:, 0].tolist() == [0.0] * counts[0] + [1.0] * counts[1]

    def test_a_copy_on_the_cpu_holds_its_own_bits_alone(self) -> None:
        batch = torch.rand(8, 4, 4)
        one = Information(batch[2]).cpu()
        assert torch.equal(one.bits, batch[2]) and one.rois is None
        assert one.bits.untyped_storage().nbytes() == 4 * 16

    def test_latents_without_common_positions_are_refused(self) -> None:
        rows = [LatentRows(torch.zeros(2), None), LatentRows(torch.zeros(2, 3), None)]
        with pytest.raises(ValueError, match=r'latents of the shapes \[\(2,\), \(2, 3'):
            information_of_images(rows, 2)

    def test_padding_does_not_count(self) -> None:
        meta = dict(img_shape=(8, 4), ori_shape=(8, 4), batch_input_shape=(8, 8))
        bits = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
        placed = place_information(Information(bits), meta, 'ori_shape')
        assert (placed.total_bits, placed.positions) == (3.0, 2)
        assert placed.bits_per_position == 1.5
        assert placed.map.shape == (8, 4) and placed.raw.tolist() == bits.tolist()

    def test_of_a_classifier_it_is_what_the_head_says(self, tmp_path: Path) -> None:
        pytest.importorskip('mmpretrain')
        files = write_model('mmpretrain', tmp_path, samples=2)
        image = write_images(tmp_path, {'a.png': (32, 32), 'b.png': (32, 32)})
        for result in AttentionInferencer(*files)(image, batch_size=2, seed=0):
            nats = result.prediction.kl_nats.item()
            assert result.information.total_bits == pytest.approx(nats / math.log(2))
            assert result.information.map is None

    @pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
    def test_of_every_region_and_pixel(self, scope: str, tmp_path: Path) -> None:
        pytest.importorskip(scope)
        files = write_model(scope, tmp_path, samples=2)
        images = write_images(tmp_path, {'a.png': (64, 64), 'b.png': (64, 64)})
        inferencer = AttentionInferencer(*files)
        for result in inferencer(images, batch_size=2, seed=0):
            found = result.information
            assert found.positions == found.raw.size > 1
            assert found.total_bits == pytest.approx(found.raw.sum(), rel=1e-4)
            assert (found.raw > 0).all()
            if scope == 'mmdet':
                assert found.rois.shape == (found.positions, 4)
            else:
                assert found.map.shape == (64, 64)

    def test_without_a_density_there_is_none(self, classifier: Given) -> None:
        # A box head that takes the mean latent has no std either.
        (result,) = classifier.inferencer(classifier.images[0])
        assert result.information is not None  # the encoder's is known without a draw
        assert place_information(None, {}, 'ori_shape') is None


def test_a_crop_is_shown_as_the_network_saw_it(classifier: Given, tmp_path) -> None:
    cfg = Config.fromfile(classifier.config)
    steps = [dict(type='CenterCrop', crop_size=16), dict(type='PackInputs')]
    cfg.test_dataloader.dataset.pipeline = steps
    inferencer = AttentionInferencer(cfg, classifier.checkpoint)
    (result,) = inferencer(classifier.images[0])
    with Image.open(classifier.images[0]) as file:
        assert np.array_equal(result.image, np.asarray(file)[8:24, 8:24])
    assert result.attention_mean.shape == (16, 16)


@pytest.mark.parametrize('size', [32, 48])  # the image has 32
def test_a_crop_that_no_scale_tells_of_is_shown_too(
    classifier: Given, size: int
) -> None:
    """Of a small image EfficientNet's takes a part, and makes it larger."""
    cfg = Config.fromfile(classifier.config)
    crop = dict(type='EfficientNetCenterCrop', crop_size=size)
    steps = [crop, dict(type='PackInputs')]
    cfg.test_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile'), *steps]
    inferencer = AttentionInferencer(cfg, classifier.checkpoint)
    (result,) = inferencer(classifier.images[0])
    assert (result.frame, result.image.shape) == ('img_shape', (size, size, 3))


def test_a_detector_whose_pipeline_crops_is_refused(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    config, checkpoint = write_model('mmdet', tmp_path)
    (image,) = write_images(tmp_path, {'a.png': (64, 64)})
    cfg = Config.fromfile(config)
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline.insert(-1, dict(type='CenterCrop', crop_size=(32, 32)))
    with pytest.raises(InferenceError, match=r'a\.png: the test pipeline crops'):
        AttentionInferencer(cfg, checkpoint)(image)


class TestMistakes:
    """Messages."""

    def test_weights_of_another_model(self, classifier: Given, tmp_path: Path) -> None:
        vanilla = Path(__file__).with_name('tiny_classifier.py')
        config = tmp_path / 'vanilla.py'
        config.write_text(f'_base_ = [{str(vanilla)!r}]')
        weights = write_weights(config)
        with pytest.raises(CheckpointError, match=r'is not of this .* stay random'):
            AttentionInferencer(classifier.config, weights)
        with pytest.raises(ValueError, match='holds no AIBAttention'):
            AttentionInferencer(config, weights)
        with pytest.raises(CheckpointError, match=r'none\.pth does not exist'):
            AttentionInferencer(config, 'none.pth')

    def test_a_config_of_no_host(self, classifier: Given) -> None:
        cfg = Config.fromfile(classifier.config)
        cfg.default_scope = 'mmyolo'
        with pytest.raises(ValueError, match=r"default_scope .* got 'mmyolo'"):
            AttentionInferencer(cfg, classifier.checkpoint)

    @pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
    def test_a_gpu_that_is_not_there(self, classifier: Given) -> None:
        args = classifier.config, classifier.checkpoint
        with pytest.raises(ValueError, match=r"'cuda:1', but torch finds no GPU: take"):
            AttentionInferencer(*args, device='cuda:1')

    def test_a_level_that_is_not_there(self, classifier: Given) -> None:
        args = classifier.config, classifier.checkpoint
        with pytest.raises(InferenceError, match=r'level must be less than 1, .* 3'):
            AttentionInferencer(*args, level=3)(classifier.images[0])

    def test_images_that_are_none(self, classifier: Given, tmp_path: Path) -> None:
        inferencer = classifier.inferencer
        broken = tmp_path / 'broken.png'
        broken.write_bytes(Path(classifier.images[0]).read_bytes()[:200])
        with pytest.raises(DataError, match=r'broken\.png cannot be used'):
            inferencer([classifier.images[0], broken])
        with pytest.raises(DataError, match=r'there is no file .*lost\.png'):
            inferencer(tmp_path / 'lost.png')
        with pytest.raises(DataError, match=r'must be \(H, W, 3\) uint8, got \(4, 4\)'):
            inferencer(np.zeros((4, 4), np.uint8))
        with pytest.raises(TypeError, match='got int at place 0'):
            inferencer([3])
        with pytest.raises(DataError, match='path of an image is empty, at place 0'):
            inferencer('')
        with pytest.raises(ValueError, match="seed must be an integer, got 'a'"):
            inferencer(classifier.images[0], seed='a')
        (tmp_path / 'empty').mkdir()
        with pytest.raises(DataError, match=r'empty holds no images'):
            inferencer(tmp_path / 'empty')
        with pytest.raises(ValueError, match=r"split must be .* got 'rest'"):
            inferencer.split_items('rest')

    def test_the_others_go_on(self, classifier: Given, tmp_path: Path) -> None:
        first, second, _ = classifier.images
        (tmp_path / 'broken.png').write_text('no image')
        items = classifier.inferencer.items([first, tmp_path, second])
        results = list(classifier.inferencer.stream(items, batch_size=3))
        kinds = [isinstance(result, Failure) for result in results]
        assert kinds == [False, True, False]
        assert results[1].name == 'broken.png' and 'identify' in results[1].reason


def test_the_script_of_the_docs_runs(
    classifier: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path
) -> None:
    text = (repo / 'docs/visualization.md').read_text()
    (script,) = re.findall(r'```python\n(from aib_mm\.apis.*?)```', text, re.DOTALL)
    assert len(script.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'photos', {'a.png': (32, 32), 'below/b.jpg': (32, 32)})
    for name, path in (
        ('config.py', classifier.config),
        ('epoch_6.pth', classifier.checkpoint),
    ):
        (tmp_path / name).write_bytes(Path(path).read_bytes())
    (tmp_path / 'script.py').write_text(script)
    found = runpy.run_path('script.py')
    assert found['result'].name == 'below/b.jpg'
    assert (tmp_path / 'looked_at/index.html').is_file()
